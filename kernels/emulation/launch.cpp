#include <atomic>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "core/check.h"
#include "kernels/emulation/block.h"
#include "kernels/emulation/execution.h"
#include "kernels/emulation/fiber_order.h"
#include "kernels/emulation/sanitizers.h"

namespace cover::cuda::emulated {
namespace {

std::atomic<int> chosen_order{-1};  // -1: as the environment says
std::atomic<std::uint64_t> chosen_seed{0};

FiberOrder order_of_environment() {
    const char* word = std::getenv("COVER_FIBER_ORDER");
    const std::string_view order = word ? word : "forward";
    if (order == "forward") return FiberOrder::forward;
    if (order == "reversed") return FiberOrder::reversed;
    require(order == "random", ErrorKind::configuration, "[emulated] COVER_FIBER_ORDER is '", order,
            "'; it may be forward, reversed or random");
    return FiberOrder::random;
}

FiberOrder current_order() {
    const int chosen = chosen_order;
    return chosen < 0 ? order_of_environment() : static_cast<FiberOrder>(chosen);
}

void check_sizes(const LaunchGrid& grid) {
    const dim3 &blocks = grid.blocks, &threads = grid.threads;
    const std::int64_t block_threads = std::int64_t{threads.x} * threads.y * threads.z;
    require(block_threads >= 1 && block_threads <= 1024 && threads.x <= 1024 && threads.y <= 1024 && threads.z <= 64,
            ErrorKind::device, "[emulated] kernel ", grid.name, ": blocks of ", threads.x, " x ", threads.y, " x ",
            threads.z, " threads; a GPU takes 1 to 1024 in all, and 64 along z");
    require(blocks.x >= 1 && blocks.x < (1u << 31) && blocks.y >= 1 && blocks.y < (1u << 16) && blocks.z >= 1 &&
                blocks.z < (1u << 16),
            ErrorKind::device, "[emulated] kernel ", grid.name, ": a grid of ", blocks.x, " x ", blocks.y, " x ",
            blocks.z, " blocks; a GPU takes at least one, 2147483647 along x and 65535 along y and z");
    require(grid.shared_bytes <= most_shared_bytes, ErrorKind::device, "[emulated] kernel ", grid.name, ": ",
            grid.shared_bytes, " bytes of shared memory; a GPU gives a block at most ", most_shared_bytes);
}

Block& block_of_kernel(const char* call) {
    Block* block = Block::running();
    require(block != nullptr, ErrorKind::internal, "[emulated] ", call, " was called outside a kernel");
    return *block;
}

}  // namespace

void set_fiber_order(FiberOrder order, std::uint64_t seed) {
    chosen_seed = seed;
    chosen_order = static_cast<int>(order);
}

FiberOrderScope::FiberOrderScope(FiberOrder order, std::uint64_t seed) : order_(chosen_order), seed_(chosen_seed) {
    set_fiber_order(order, seed);
}

FiberOrderScope::~FiberOrderScope() {
    chosen_order = order_;
    chosen_seed = seed_;
}

void run_grid(Stream& stream, const LaunchGrid& grid, const Body& body) {
    check_sizes(grid);
    require(Block::running() == nullptr, ErrorKind::internal, "[emulated] kernel ", grid.name,
            " is launched from inside a kernel");
    // What every thread did comes before what the caller does next, also when one of them has thrown.
    struct Launch {
        char ends = 0;
        ~Launch() { acquire(&ends); }
    } launch;
    const FiberOrder order = current_order();
    const std::uint64_t seed = chosen_seed;
    const std::int64_t blocks = std::int64_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z;
    // To begin a thread is dear under the thread sanitizer. Of a large grid some eight stretches of blocks have
    // threads of their own, each an odd number of blocks, so that neighbours which race do so across an end of one.
    static std::atomic<std::uint64_t> launches = 0;
    const std::uint64_t launch_number = launches.fetch_add(1, std::memory_order_relaxed) + 1;
    const std::int64_t stretch = blocks / 16 * 2 + 1;
    const auto run_block = [&](std::int64_t number) {
        const auto plane = std::int64_t{grid.blocks.x} * grid.blocks.y;
        const uint3 index{static_cast<unsigned>(number % grid.blocks.x),
                          static_cast<unsigned>(number / grid.blocks.x % grid.blocks.y),
                          static_cast<unsigned>(number / plane)};
        // Far apart in SplitMix64's sequence, whatever the seed.
        const std::uint64_t block_seed =
            seed * 0xd1342543de82ef95u + static_cast<std::uint64_t>(number) * 0x2545f4914f6cdd1du;
        const std::uint64_t generation = launch_number << 32 | static_cast<std::uint64_t>(number / stretch);
        Block::of_this_thread().run({&grid, &body, order, block_seed, &launch.ends, generation}, index);
    };
    if (stream.pool)
        stream.parallel(blocks, run_block);
    else
        for (std::int64_t number = 0; number < blocks; ++number) run_block(number);
}

void wait_for_block(const std::source_location& where) { block_of_kernel("block_sync").wait_for_block(where); }

void meet(Collective collective, unsigned mask, void* operand, const std::source_location& where) {
    block_of_kernel("a warp collective").meet(collective, mask, operand, where);
}

void* shared_piece(int index, std::size_t bytes, std::size_t used) {
    return block_of_kernel("Shared").shared_piece(index, bytes, used);
}

void begin_copy(void* shared, const void* global, bool wanted) {
    block_of_kernel("copy_async_16").begin_copy(shared, global, wanted);
}

void commit_copies() { block_of_kernel("copy_commit").commit_copies(); }

const Copy* next_completed_copy(int pending) { return block_of_kernel("copy_wait").next_completed_copy(pending); }

std::uint32_t shared_offset(const void* at, const std::source_location& where) {
    return block_of_kernel("shared_address").shared_offset(at, where);
}

void* all_of_shared() { return block_of_kernel("COVER_SHARED_MEMORY").all_of_shared(); }

std::uint64_t begin_barrier(const void* at, unsigned arrivals, const std::source_location& where) {
    return block_of_kernel("barrier_init").begin_barrier(at, arrivals, where);
}

void arrive(std::uint64_t word, std::uint64_t bytes, const std::source_location& where) {
    block_of_kernel("barrier_arrive").arrive(word, bytes, where);
}

void wait_for_phase(std::uint64_t word, unsigned parity, const std::source_location& where) {
    block_of_kernel("barrier_wait").wait_for_phase(word, parity, where);
}

void begin_box(void* shared, const BoxedTensor& tensor, std::uint64_t barrier, int rank,
               const std::array<int, 5>& corner, const std::source_location& where) {
    block_of_kernel("copy_box").begin_box(shared, tensor, barrier, rank, corner, where);
}

void wait_for_warpgroup(int number, const std::source_location& where) {
    block_of_kernel("warpgroup_sync").wait_for_warpgroup(number, where);
}

void begin_product(const Product& product, const std::source_location& where) {
    block_of_kernel("multiply_add_warpgroup").begin_product(product, where);
}

void commit_products() { block_of_kernel("products_commit").commit_products(); }

void complete_products(int pending, const std::source_location& where) {
    block_of_kernel("products_wait").complete_products(pending, where);
}

}  // namespace cover::cuda::emulated
