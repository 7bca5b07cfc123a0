// One block at a time on one OS thread: its CUDA threads take turns, each until it waits or returns. A thread that
// never waits runs on the fiber of the thread before it, so that only waiting costs a switch.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "kernels/emulation/execution.h"
#include "kernels/emulation/fiber.h"
#include "kernels/emulation/fiber_order.h"
#include "kernels/emulation/hopper_execution.h"
#include "kernels/emulation/shared_arena.h"

namespace cover::cuda::emulated {

enum class ThreadState : std::uint8_t { unstarted, ready, running, waiting, returned };

struct Thread {
    uint3 index;
    ThreadState state = ThreadState::unstarted;
    // Where and for whom it waits.
    Collective collective = Collective::block_sync;
    unsigned mask = 0;  // of warp collectives
    std::uint32_t barrier = 0;
    unsigned parity = 0;
    int number = 0;  // of warpgroup_sync
    void* operand = nullptr;
    std::source_location where;
    Fiber* fiber = nullptr;  // null: not started, or returned
    void* racer = nullptr;   // for the thread sanitizer
    std::vector<Copy> copies;
    std::size_t completed_copies = 0;
    std::int64_t committed_groups = 0;
    ProductQueue products;
};

// A barrier in shared memory, numbered from 0 in the order in which they were made.
struct Barrier {
    std::uint32_t offset;
    unsigned arrivals, missing;  // of a phase; of the current one
    std::int64_t bytes = 0;      // announced and not landed; below 0 while they land first
    std::int64_t phase = 0;      // how many have ended
};

// A box that is under way.
struct BoxCopy {
    BoxedTensor tensor;
    std::uint32_t to;  // in shared memory
    std::array<int, 5> corner;
    std::uint32_t barrier;

    std::int64_t bytes() const;
    void land(unsigned char* shared) const;
};

bool same_place(const std::source_location& a, const std::source_location& b);

// "threads 0-15 wait at block_sync (norm.cu:40); threads 16-31 have returned".
std::string who_waits_where(const std::vector<Thread>& threads, std::size_t count,
                            const std::vector<Barrier>& barriers);

class Block {
public:
    struct Settings {
        const LaunchGrid* grid;
        const Body* body;
        FiberOrder order;
        std::uint64_t seed;
        void* launch;  // what the ends of all threads are ordered by
        // Blocks of the same one may share what the thread sanitizer takes their threads for; never 0.
        std::uint64_t generation;
    };

    // That of the calling OS thread.
    static Block& of_this_thread();
    // That whose kernel is running on the calling OS thread; null outside.
    static Block* running();

    Block();
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    void run(const Settings& settings, uint3 block_index);

    void wait_for_block(const std::source_location& where);
    void meet(Collective collective, unsigned mask, void* operand, const std::source_location& where);
    void* shared_piece(int index, std::size_t bytes, std::size_t used);
    void begin_copy(void* shared, const void* global, bool wanted);
    void commit_copies() { ++running_->committed_groups; }
    const Copy* next_completed_copy(int pending);

    // What Hopper alone has (hopper.cpp).
    std::uint32_t shared_offset(const void* at, const std::source_location& where) const;
    void* all_of_shared();
    std::uint64_t begin_barrier(const void* at, unsigned arrivals, const std::source_location& where);
    void arrive(std::uint64_t word, std::uint64_t bytes, const std::source_location& where);
    void wait_for_phase(std::uint64_t word, unsigned parity, const std::source_location& where);
    void begin_box(void* shared, const BoxedTensor& tensor, std::uint64_t word, int rank,
                   const std::array<int, 5>& corner, const std::source_location& where);
    void wait_for_warpgroup(int number, const std::source_location& where);
    void begin_product(const Product& product, const std::source_location& where);
    void commit_products() { running_->products.commit(); }
    void complete_products(int pending, const std::source_location& where);

private:
    static constexpr unsigned everyone = ~0u;  // a mask
    // Unwinds the stack of a thread that will not go on.
    struct Discarded {};
    // The lanes of a warp that wait at one place with one mask.
    struct Meeting {
        Collective collective;
        unsigned mask, arrived;
        std::source_location where;
    };

    void begin(const Settings& settings, uint3 block_index);
    void end();
    void new_racers(std::uint64_t generation);
    void forget_racers();
    static Context& fiber_main(void* block, Fiber& self);
    void run_thread(Thread& thread, Fiber& self);
    Fiber& free_fiber();
    void pause();
    void continue_as(Thread& thread);
    std::uint64_t next_random();
    void push_ready(std::uint32_t thread);
    Thread* take_ready();
    void wake(std::uint32_t first, std::uint32_t count, unsigned mask);
    void order_memory(std::uint32_t first, std::uint32_t count, unsigned mask, void* at);
    void discard_waiting();
    std::string place() const;
    [[noreturn]] void fail_at(const std::source_location& where, const char* call, const std::string& what) const;
    std::uint32_t barrier_number(std::uint64_t word, const char* call, const std::source_location& where) const;
    void end_phase_if_complete(Barrier& barrier);
    void land_a_box();
    std::string left_under_way() const;
    std::uint32_t number_of(const Thread& thread) const {
        return static_cast<std::uint32_t>(&thread - threads_.data());
    }

    Settings settings_{};
    uint3 block_index_{};
    dim3 shape_{0, 0, 0};  // for which threads_ holds indices
    std::uint32_t count_ = 0, returned_ = 0;
    std::vector<Thread> threads_;
    Thread* running_ = nullptr;

    std::vector<std::uint32_t> ready_;  // a ring: each thread is in it at most once
    std::uint32_t ready_first_ = 0, ready_count_ = 0;
    std::uint64_t random_ = 0;

    std::uint32_t at_barrier_ = 0;
    std::source_location barrier_;
    std::vector<std::vector<Meeting>> meetings_;  // by warp

    FiberSwitch switch_;
    Context main_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<Fiber*> idle_;
    Thread* handed_over_ = nullptr;  // what the fiber that is switched to begins with
    void* main_racer_ = nullptr;
    std::uint64_t generation_ = 0;  // of the threads' racers

    std::vector<Barrier> barriers_;
    std::vector<BoxCopy> boxes_;
    struct WarpgroupSync {
        int group = -1;  // whose it is
        std::uint32_t waiting = 0;
    };
    std::array<WarpgroupSync, 16> warpgroup_syncs_;  // by number
    std::vector<std::int64_t> products_begun_;       // by warp

    bool discarding_ = false;
    std::exception_ptr error_;
    SharedArena shared_;
};

}  // namespace cover::cuda::emulated
