#include "core/parallel.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/check.h"

namespace cover {
namespace {
thread_local bool inside_run = false;
}

struct ThreadPool::State {
    std::mutex mutex;
    std::condition_variable work, done;
    std::vector<std::thread> threads;
    const std::function<void(std::int64_t)>* body = nullptr;
    std::int64_t next = 0, tasks = 0;
    int busy = 0;
    std::uint64_t generation = 0;
    bool stopping = false;
    std::exception_ptr error;

    // Takes tasks until none is left. The lock is held on entry and on return.
    void drain(std::unique_lock<std::mutex>& lock) {
        while (next < tasks) {
            const std::int64_t task = next++;
            lock.unlock();
            std::exception_ptr caught;
            try {
                (*body)(task);
            } catch (...) {
                caught = std::current_exception();
            }
            lock.lock();
            if (caught) {
                if (!error) error = caught;
                next = tasks;
            }
        }
    }

    void worker() {
        inside_run = true;
        std::unique_lock lock(mutex);
        std::uint64_t seen = 0;
        while (true) {
            work.wait(lock, [&] { return stopping || generation != seen; });
            if (stopping) return;
            seen = generation;
            ++busy;
            drain(lock);
            if (--busy == 0) done.notify_all();
        }
    }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
    require(threads >= 1, ErrorKind::configuration, "[threads] at least one thread is needed, got ", threads);
    for (int i = 1; i < threads; ++i) state_->threads.emplace_back([s = state_.get()] { s->worker(); });
}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->stopping = true;
    }
    state_->work.notify_all();
    for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::run(std::int64_t tasks, const std::function<void(std::int64_t)>& body) {
    if (tasks <= 0) return;
    if (inside_run || tasks == 1 || state_->threads.empty()) {
        for (std::int64_t task = 0; task < tasks; ++task) body(task);
        return;
    }
    inside_run = true;
    std::unique_lock lock(state_->mutex);
    state_->body = &body;
    state_->next = 0;
    state_->tasks = tasks;
    state_->error = nullptr;
    ++state_->generation;
    state_->work.notify_all();
    state_->drain(lock);
    state_->done.wait(lock, [&] { return state_->busy == 0; });
    state_->body = nullptr;
    inside_run = false;
    if (state_->error) {
        const std::exception_ptr error = state_->error;
        state_->error = nullptr;
        lock.unlock();
        std::rethrow_exception(error);
    }
}

}  // namespace cover
