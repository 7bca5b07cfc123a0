// What emulated.h asks of the runtime: to run a grid, and, from inside a kernel, to wait for other threads, to cut
// shared memory and to keep copies that are under way. Called outside a kernel, the latter throw Error(internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "kernels/emulation/vector_types.h"
#include "kernels/variant.h"

namespace cover::cuda::emulated {

inline constexpr unsigned warp_size = 32;

struct LaunchGrid {
    const char* name;  // of the kernel
    dim3 blocks, threads;
    std::size_t shared_bytes;
};

// What one CUDA thread does.
struct Body {
    void (*call)(const void* context);
    const void* context;
};

// Runs every block on the stream's pool (serially without one) and returns when all are done. Throws what a thread of
// the kernel threw, and Error(device) for sizes that no GPU takes, for threads that wait for each other in vain and for
// shared memory that the launch did not ask for.
void run_grid(Stream& stream, const LaunchGrid& grid, const Body& body);

enum class Collective : std::uint8_t {
    block_sync,
    warp_sync,
    shuffle,
    shuffle_down,
    shuffle_xor,
    ballot,
    load_matrix_x4,
    load_matrix_x4_transposed,
    load_matrix_x2_transposed,
    multiply_add_bf16,
    multiply_add_tf32,
    // Of Hopper alone (hopper_execution.h).
    barrier_wait,
    warpgroup_sync,
    products_wait,
};

// What a lane brings to a collective and takes from it.
struct ShuffleOperand {
    std::uint64_t value;
    int argument;  // lane, delta or mask of lane bits
    std::uint64_t result;
};
struct BallotOperand {
    bool vote;
    unsigned result;
};
struct MatrixOperand {
    uint4 row;  // eight elements of 16 bits
    unsigned fragment[4];
};
struct MultiplyAddOperand {
    float* d;
    const unsigned* a;
    const unsigned* b;
};

// Returns when every thread of the block waits at the same place.
void wait_for_block(const std::source_location& where);
// Returns when every lane that the mask names waits at the same place with the same mask; `operand` is the collective's
// struct from above, null for warp_sync. Values are exchanged, but only warp_sync orders memory, as on a GPU.
void meet(Collective collective, unsigned mask, void* operand, const std::source_location& where);

// The block's piece `index`, the same for every thread: `bytes` long, `used` of the launch's shared_bytes.
void* shared_piece(int index, std::size_t bytes, std::size_t used);

struct Copy {
    void* shared;
    const void* global;  // null: zeros
    std::int64_t group;
};
void begin_copy(void* shared, const void* global, bool wanted);
void commit_copies();
// The next of the calling thread's copies that a wait for all but `pending` groups completes; null after the last.
const Copy* next_completed_copy(int pending);

}  // namespace cover::cuda::emulated

// Of the CUDA thread that runs on this OS thread. Plain variables: a debugger can use them in a condition.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
