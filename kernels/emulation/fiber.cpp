#include "kernels/emulation/fiber.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "kernels/emulation/sanitizers.h"

namespace cover::cuda::emulated {
namespace {

constexpr std::size_t guard_bytes = 4096;

// The stack belongs to the Fiber, which outlives what runs on it.
struct BorrowedStack {
    void deallocate(boost::context::stack_context&) {}
};

}  // namespace

GuardedPages::GuardedPages(std::size_t bytes) : size_(bytes) {
    void* pages = mmap(nullptr, bytes + 2 * guard_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const bool mapped = pages != MAP_FAILED;
    if (mapped) data_ = static_cast<unsigned char*>(pages) + guard_bytes;
    if (!mapped || mprotect(data_, bytes, PROT_READ | PROT_WRITE) != 0) {
        const int reason = errno;
        if (mapped) munmap(pages, bytes + 2 * guard_bytes);
        fail(ErrorKind::device,
             text("[emulated] no memory for a stack of ", static_cast<std::int64_t>(bytes),
                  " bytes: ", std::strerror(reason), "; run fewer OS threads or raise vm.max_map_count"));
    }
}

GuardedPages::~GuardedPages() {
    allow_access(data_, size_);
    munmap(data_ - guard_bytes, size_ + 2 * guard_bytes);
}

void GuardedPages::forget_accesses() {
    if (!thread_sanitizer()) return;
    const Unseen unseen;
    // The sanitizer forgets what it knew of an address range when the range is mapped anew.
    if (mmap(data_, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        fail(ErrorKind::device, text("[emulated] a stack could not be mapped anew: ", std::strerror(errno)));
}

void Fiber::prepare(FiberSwitch& owner, Main main, void* argument) {
    stack_.forget_accesses();
    stack_bottom = stack_.data();
    stack_size = stack_.size();
    fake_stack = nullptr;
    alive_ = true;
    boost::context::stack_context borrowed;
    borrowed.size = stack_.size() - colour_;
    borrowed.sp = stack_.data() + borrowed.size;
    resume_point =
        boost::context::fiber(std::allocator_arg, boost::context::preallocated(borrowed.sp, borrowed.size, borrowed),
                              BorrowedStack{}, [this, &owner, main, argument](boost::context::fiber&& left) {
                                  owner.arrive(std::move(left), *this);
                                  Context& next = main(argument, *this);
                                  alive_ = false;
                                  owner.start_leaving(nullptr, next);
                                  return std::move(next.resume_point);
                              });
}

void FiberSwitch::go(Context& from, Context& to) {
    start_leaving(&from, to);
    arrive(std::move(to.resume_point).resume(), from);
}

void FiberSwitch::start_leaving(Context* from, Context& to) {
    leaving_ = from;
    if (address_sanitizer())
        __sanitizer_start_switch_fiber(from ? &from->fake_stack : nullptr, to.stack_bottom, to.stack_size);
}

void FiberSwitch::arrive(boost::context::fiber&& left, Context& at) {
    check_thread();
    const void* bottom = nullptr;
    std::size_t size = 0;
    if (address_sanitizer()) __sanitizer_finish_switch_fiber(at.fake_stack, &bottom, &size);
    if (!leaving_) return;
    leaving_->resume_point = std::move(left);
    if (!leaving_->stack_bottom) {  // the OS thread's own stack, which only the sanitizer knows
        leaving_->stack_bottom = bottom;
        leaving_->stack_size = size;
    }
}

// Not inlined: pthread_self() may be remembered within a function, across a switch.
[[gnu::noinline]] void FiberSwitch::check_thread() const {
    if (pthread_equal(pthread_self(), owner_)) return;
    std::fprintf(stderr, "[emulated] a fiber was resumed on another OS thread than the one that it began on\n");
    std::abort();
}

}  // namespace cover::cuda::emulated
