#include "kernels/emulation/block.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/check.h"
#include "kernels/emulation/collectives.h"
#include "kernels/emulation/sanitizers.h"

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};

namespace cover::cuda::emulated {
namespace {

constinit thread_local Block* running_block = nullptr;

}  // namespace

// SplitMix64.
std::uint64_t Block::next_random() {
    std::uint64_t z = random_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

Block& Block::of_this_thread() {
    thread_local Block block;
    return block;
}

Block* Block::running() { return running_block; }

Block::Block() = default;

Block::~Block() {
    handed_over_ = nullptr;
    for (const std::unique_ptr<Fiber>& fiber : fibers_)
        if (fiber->alive()) switch_.go(main_, *fiber);
    if (thread_sanitizer()) forget_racers();
}

void Block::run(const Settings& settings, uint3 block_index) {
    begin(settings, block_index);
    if (Thread* first = take_ready()) {
        handed_over_ = first;
        switch_.go(main_, free_fiber());
    }
    if (!error_ && returned_ < count_)
        error_ = std::make_exception_ptr(Error(
            ErrorKind::device,
            text(place(), "no thread can go on: ", who_waits_where(threads_, count_, barriers_),
                 ". Every thread of a block must come to the same block_sync, and every lane that a mask names to "
                 "the same collective; move the call out of the branch, or the early return behind it",
                 barriers_.empty() ? ""
                                   : ". A barrier's phase needs all its arrivals and all bytes that they announced")));
    discard_waiting();
    if (const std::string left = error_ ? "" : left_under_way(); !left.empty())
        error_ = std::make_exception_ptr(Error(ErrorKind::device, place() + left));
    end();
    if (error_) {
        acquire(settings.launch);
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
}

void Block::begin(const Settings& settings, uint3 block_index) {
    const Unseen unseen;
    settings_ = settings;
    block_index_ = block_index;
    const dim3 shape = settings.grid->threads;
    if (shape.x != shape_.x || shape.y != shape_.y || shape.z != shape_.z) {
        shape_ = shape;
        count_ = shape.x * shape.y * shape.z;
        if (threads_.size() < count_) threads_.resize(count_);
        ready_.resize(count_);
        fibers_.reserve(count_ + 1);  // one may be ending
        idle_.reserve(count_ + 1);
        for (std::uint32_t i = 0; i < count_; ++i)
            threads_[i].index = {i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y)};
        const std::size_t warps = (count_ + warp_size - 1) / warp_size;
        if (meetings_.size() < warps) meetings_.resize(warps);
        for (std::vector<Meeting>& meetings : meetings_) meetings.reserve(warp_size);
        products_begun_.resize(warps);
    }
    random_ = settings.seed;
    returned_ = at_barrier_ = ready_first_ = ready_count_ = 0;
    for (std::vector<Meeting>& meetings : meetings_) meetings.clear();
    barriers_.clear();
    boxes_.clear();
    warpgroup_syncs_ = {};
    std::fill(products_begun_.begin(), products_begun_.end(), 0);
    shared_.begin_block(settings.grid->shared_bytes);
    for (std::uint32_t i = 0; i < count_; ++i) {
        threads_[i].state = ThreadState::unstarted;
        push_ready(settings.order == FiberOrder::reversed ? count_ - 1 - i : i);
    }
    if (thread_sanitizer()) {
        main_racer_ = __tsan_get_current_fiber();
        if (generation_ != settings.generation) new_racers(settings.generation);
    }
    running_block = this;
    blockIdx = block_index;
    blockDim = shape;
    gridDim = settings.grid->blocks;
}

void Block::end() {
    running_block = nullptr;
    running_ = nullptr;
    const Unseen unseen;
    // The sanitizer has room for 8,000 threads: those of small blocks alone are kept.
    if (thread_sanitizer() && (error_ || count_ > 256)) forget_racers();
    const std::string written = shared_.end_block();
    if (!written.empty() && !error_) error_ = std::make_exception_ptr(Error(ErrorKind::device, place() + written));
}

void Block::new_racers(std::uint64_t generation) {
    forget_racers();
    for (std::uint32_t i = 0; i < count_; ++i) threads_[i].racer = __tsan_create_fiber(0);
    generation_ = generation;
}

void Block::forget_racers() {
    for (Thread& thread : threads_)
        if (thread.racer) __tsan_destroy_fiber(std::exchange(thread.racer, nullptr));
    generation_ = 0;
}

// Fibers ---------------------------------------------------------------------------------------------

Context& Block::fiber_main(void* block, Fiber& self) {
    Block& b = *static_cast<Block*>(block);
    while (Thread* thread = std::exchange(b.handed_over_, nullptr)) {
        Thread* next = thread;
        do {
            b.run_thread(*next, self);
            next = b.take_ready();
            // Under the thread sanitizer every thread has a stack of its own, on which nobody else has left traces.
        } while (next && !next->fiber && !thread_sanitizer());
        Context* to = &b.main_;
        if (next) {
            if (!next->fiber) b.handed_over_ = next;
            to = next->fiber ? next->fiber : &b.free_fiber();
        } else {
            run_as(b.main_racer_);
        }
        b.idle_.push_back(&self);
        if (thread_sanitizer()) return *to;
        b.switch_.go(self, *to);
    }
    return b.main_;
}

void Block::run_thread(Thread& thread, Fiber& self) {
    thread.fiber = &self;
    continue_as(thread);
    try {
        settings_.body->call(settings_.body->context);
        if (!thread.products.empty())
            fail(ErrorKind::device, text(place(), "thread ", number_of(thread),
                                         " returns while products are under way; end with products_wait<0>()"));
    } catch (const Discarded&) {
    } catch (...) {
        if (!error_) error_ = std::current_exception();
        discarding_ = true;
        ready_count_ = 0;
    }
    release(settings_.launch);
    thread.state = ThreadState::returned;
    thread.fiber = nullptr;
    ++returned_;
    if (!thread.copies.empty()) {
        const Unseen unseen;
        thread.copies.clear();
    }
    thread.completed_copies = 0;
    thread.committed_groups = 0;
    thread.products.clear();
}

// One that begins with the thread that is handed over.
Fiber& Block::free_fiber() {
    const Unseen unseen;
    if (idle_.empty()) {
        fibers_.push_back(std::make_unique<Fiber>(fibers_.size()));
        idle_.push_back(fibers_.back().get());
    }
    Fiber& fiber = *idle_.back();
    idle_.pop_back();
    if (!fiber.alive()) fiber.prepare(switch_, fiber_main, this);
    return fiber;
}

// The running thread has noted what it waits for, or is among the ready ones.
void Block::pause() {
    Thread& self = *running_;
    Thread* next = take_ready();
    if (next != &self) {
        if (!next) {
            run_as(main_racer_);
            switch_.go(*self.fiber, main_);
        } else if (next->fiber) {
            switch_.go(*self.fiber, *next->fiber);
        } else {
            handed_over_ = next;
            switch_.go(*self.fiber, free_fiber());
        }
    }
    continue_as(self);
    if (discarding_) throw Discarded{};
}

void Block::continue_as(Thread& thread) {
    running_ = &thread;
    thread.state = ThreadState::running;
    threadIdx = thread.index;
    run_as(thread.racer);
}

// After an error: the destructors of what the waiting threads hold run, as if the wait had thrown.
void Block::discard_waiting() {
    discarding_ = true;
    ready_count_ = 0;
    for (std::uint32_t i = 0; i < count_ && returned_ < count_; ++i)
        if (threads_[i].fiber) switch_.go(main_, *threads_[i].fiber);
    discarding_ = false;
}

// Turns ---------------------------------------------------------------------------------------------

void Block::push_ready(std::uint32_t thread) {
    std::uint32_t at = ready_first_ + ready_count_++;
    if (at >= count_) at -= count_;
    ready_[at] = thread;
}

Thread* Block::take_ready() {
    while (ready_count_ == 0 && returned_ < count_ && !boxes_.empty() && !discarding_) land_a_box();
    if (ready_count_ == 0) return nullptr;
    if (settings_.order == FiberOrder::random) {
        const std::uint64_t pick = ready_first_ + next_random() % ready_count_;
        std::swap(ready_[ready_first_], ready_[pick % count_]);
    }
    Thread* thread = &threads_[ready_[ready_first_]];
    if (++ready_first_ == count_) ready_first_ = 0;
    --ready_count_;
    return thread;
}

void Block::wake(std::uint32_t first, std::uint32_t count, unsigned mask) {
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t offset = settings_.order == FiberOrder::reversed ? count - 1 - i : i;
        if (count <= warp_size && !((mask >> offset) & 1u)) continue;
        threads_[first + offset].state = ThreadState::ready;
        push_ready(first + offset);
    }
}

// What any of these threads did before comes before what any of them does next.
void Block::order_memory(std::uint32_t first, std::uint32_t count, unsigned mask, void* at) {
    if (!thread_sanitizer()) return;
    const auto each = [&](void (*order)(void*)) {
        for (std::uint32_t i = 0; i < count; ++i) {
            if (count <= warp_size && !((mask >> i) & 1u)) continue;
            run_as(threads_[first + i].racer);
            order(at);
        }
    };
    each(release);
    each(acquire);
    run_as(running_->racer);
}

// Waiting ---------------------------------------------------------------------------------------------

bool same_place(const std::source_location& a, const std::source_location& b) {
    return a.line() == b.line() && a.column() == b.column() &&
           (a.file_name() == b.file_name() || std::string_view(a.file_name()) == b.file_name());
}

void Block::wait_for_block(const std::source_location& where) {
    if (discarding_) throw Discarded{};
    Thread& self = *running_;
    self.state = ThreadState::waiting;
    self.collective = Collective::block_sync;
    self.where = where;
    if (at_barrier_ == 0) barrier_ = where;
    // Who waits elsewhere is not counted: the block comes to a standstill, and the error says who waits where.
    if (same_place(barrier_, where) && ++at_barrier_ == count_) {
        at_barrier_ = 0;
        order_memory(0, count_, everyone, &at_barrier_);
        wake(0, count_, everyone);
    }
    pause();
}

void Block::meet(Collective collective, unsigned mask, void* operand, const std::source_location& where) {
    if (discarding_) throw Discarded{};
    Thread& self = *running_;
    const std::uint32_t number = number_of(self), lane = number % warp_size, first = number - lane;
    if (!((mask >> lane) & 1u))
        fail(ErrorKind::device,
             text(place(), "thread ", number, ", lane ", lane, " of its warp, calls ", name_of(collective), " (",
                  where.file_name(), ":", where.line(), ") with a mask that does not name it"));
    self.state = ThreadState::waiting;
    self.collective = collective;
    self.mask = mask;
    self.operand = operand;
    self.where = where;
    std::vector<Meeting>& meetings = meetings_[number / warp_size];
    auto meeting = std::find_if(meetings.begin(), meetings.end(), [&](const Meeting& m) {
        return m.mask == mask && m.collective == collective && same_place(m.where, where);
    });
    if (meeting == meetings.end()) {
        meetings.push_back({collective, mask, 0, where});  // room for a meeting per lane was reserved
        meeting = meetings.end() - 1;
    }
    meeting->arrived |= 1u << lane;
    if (meeting->arrived == mask) {
        *meeting = meetings.back();
        meetings.pop_back();
        void* operands[warp_size];
        const std::uint32_t lanes = std::min(warp_size, count_ - first);
        for (std::uint32_t i = 0; i < lanes; ++i) operands[i] = threads_[first + i].operand;
        exchange(collective, mask, operands);
        if (collective == Collective::warp_sync) order_memory(first, lanes, mask, &meetings);
        wake(first, lanes, mask);
    }
    pause();
}

// Memory ---------------------------------------------------------------------------------------------

void* Block::shared_piece(int index, std::size_t bytes, std::size_t used) {
    try {
        return shared_.piece(index, bytes, used);
    } catch (const Error& error) {
        fail(error.kind(), place() + error.what());
    }
}

void Block::begin_copy(void* shared, const void* global, bool wanted) {
    const auto aligned = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 == 0; };
    if (!aligned(shared) || (wanted && !aligned(global)))
        fail(ErrorKind::device,
             text(place(), "thread ", number_of(*running_), " copies from or to an address that is no multiple of 16"));
    if (!shared_.holds(shared, 16))
        fail(ErrorKind::device, text(place(), "thread ", number_of(*running_),
                                     " copies 16 bytes to a place that is not within one piece of Shared"));
    const Unseen unseen;
    running_->copies.push_back({shared, wanted ? global : nullptr, running_->committed_groups});
}

const Copy* Block::next_completed_copy(int pending) {
    Thread& self = *running_;
    if (self.completed_copies == self.copies.size()) {
        self.copies.clear();
        self.completed_copies = 0;
        return nullptr;
    }
    const Copy& copy = self.copies[self.completed_copies];
    if (copy.group >= self.committed_groups - pending) return nullptr;
    ++self.completed_copies;
    return &copy;
}

std::string Block::place() const {
    return text("[emulated] kernel ", settings_.grid->name, ", block (", block_index_.x, ", ", block_index_.y, ", ",
                block_index_.z, "): ");
}

}  // namespace cover::cuda::emulated
