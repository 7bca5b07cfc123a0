#include "app/stop_signal.h"

#include <atomic>

namespace cover::app {
namespace {

std::atomic<bool> stop{false};

extern "C" void on_stop_signal(int number) {
    if (!stop.exchange(true)) return;
    std::signal(number, SIG_DFL);
    std::raise(number);
}

}  // namespace

StopSignal::StopSignal() {
    stop = false;
    struct sigaction action {};
    action.sa_handler = on_stop_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, &before_[number]);
}

StopSignal::~StopSignal() {
    for (const auto& [number, action] : before_) sigaction(number, &action, nullptr);
}

bool StopSignal::received() { return stop; }

}  // namespace cover::app
