// A small pool of threads. Which thread runs a task is left open; therefore a task owns all that it writes, and no
// result depends on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace cover {

class ThreadPool {
public:
    // The caller of run() is one of the threads: ThreadPool(1) starts none.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const;
    // Calls body(task) for every task in [0, tasks), in any order, and returns when all are done. The first exception
    // is thrown again here. One run at a time; a run inside a run is done serially by its caller.
    void run(std::int64_t tasks, const std::function<void(std::int64_t)>& body);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cover
