// Fibers with stacks of their own on one OS thread, and the switch between them.
#pragma once

#include <pthread.h>

#include <boost/context/fiber.hpp>
#include <cstddef>

namespace cover::cuda::emulated {

// Pages between inaccessible ones. Throws Error(device) when the operating system has none.
class GuardedPages {
public:
    explicit GuardedPages(std::size_t bytes);  // a multiple of 4096
    ~GuardedPages();
    GuardedPages(const GuardedPages&) = delete;
    GuardedPages& operator=(const GuardedPages&) = delete;
    unsigned char* data() const { return data_; }
    std::size_t size() const { return size_; }
    // Under the thread sanitizer: drops the contents and who accessed them, so that the next owner is not taken for one
    // that races with the last. Nothing otherwise.
    void forget_accesses();

private:
    unsigned char* data_;
    std::size_t size_;
};

// A place where execution was left and can be taken up again: of a fiber, or of the OS thread that runs them.
struct Context {
    boost::context::fiber resume_point;
    const void* stack_bottom = nullptr;
    std::size_t stack_size = 0;
    void* fake_stack = nullptr;  // the address sanitizer's, for locals whose address is taken
};

class FiberSwitch;

class Fiber : public Context {
public:
    static constexpr std::size_t stack_bytes = 256 * 1024;
    using Main = Context& (*)(void* argument, Fiber& self);

    explicit Fiber(std::size_t number) : stack_(stack_bytes), colour_(number * 320 % 16384) {}
    // Makes a fiber that, when it is first switched to, calls main(argument, *this) and goes on to the context that it
    // returns. Its stack is free again when that has been reached.
    void prepare(FiberSwitch& owner, Main main, void* argument);
    bool alive() const { return alive_; }

private:
    GuardedPages stack_;
    std::size_t colour_;  // stacks that begin at equal places in their pages would fight for the same cache lines
    bool alive_ = false;
};

// Fibers stay on the OS thread that made this: the compiler keeps addresses of thread_local variables across a switch.
class FiberSwitch {
public:
    // Leaves `from`, the running one, and returns when something switches to it again.
    void go(Context& from, Context& to);

private:
    friend class Fiber;
    void start_leaving(Context* from, Context& to);
    void arrive(boost::context::fiber&& left, Context& at);
    void check_thread() const;

    Context* leaving_ = nullptr;  // null: it has ended
    pthread_t owner_ = pthread_self();
};

}  // namespace cover::cuda::emulated
