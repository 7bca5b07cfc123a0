// SIGINT and SIGTERM during a run: the first one asks it to stop after this step, a second one of either ends the
// process at once.
#pragma once

#include <csignal>
#include <map>

namespace cover::app {

class StopSignal {
public:
    StopSignal();
    ~StopSignal();  // puts the earlier handlers back
    StopSignal(const StopSignal&) = delete;
    StopSignal& operator=(const StopSignal&) = delete;

    static bool received();

private:
    std::map<int, struct sigaction> before_;
};

}  // namespace cover::app
