#include <stdexcept>

#include "tests/emulation_kernels.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace {

constexpr unsigned lower_lanes = 0x00000fffu;  // below 12

__device__ std::int64_t linear_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

__device__ std::int64_t linear_block() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }

}  // namespace

__global__ void write_indices(std::int64_t* out) {
    const std::int64_t threads = std::int64_t{blockDim.x} * blockDim.y * blockDim.z;
    std::int64_t packed = 0;
    for (const unsigned index : {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z})
        packed = packed << 6 | index;
    out[linear_block() * threads + linear_thread()] = packed;
}

__global__ void note_turns(int* turn, int* counters) { turn[global_thread()] = atomic_add(counters + blockIdx.x, 1); }

__global__ void note_turns_after_waits(int* turn, int* counters) {
    block_sync();
    const int own = shuffle(static_cast<int>(global_thread()), static_cast<int>(threadIdx.x % 32));
    turn[own] = atomic_add(counters + blockIdx.x, 1);
}

template <class T>
__global__ void exchange(T* out, unsigned* votes, const T* in, int lane, int delta) {
    const std::int64_t i = global_thread();
    const T value = in[i];
    out[3 * i] = shuffle(value, lane);
    out[3 * i + 1] = shuffle_down(value, static_cast<unsigned>(delta));
    out[3 * i + 2] = shuffle_xor(value, delta);
    votes[i] = ballot(static_cast<std::int64_t>(value) % 2 != 0);
}
template __global__ void exchange(int*, unsigned*, const int*, int, int);
template __global__ void exchange(unsigned*, unsigned*, const unsigned*, int, int);
template __global__ void exchange(float*, unsigned*, const float*, int, int);
template __global__ void exchange(double*, unsigned*, const double*, int, int);
template __global__ void exchange(std::int64_t*, unsigned*, const std::int64_t*, int, int);

__global__ void sum_in_branches(int* out, const int* in) {
    const std::int64_t i = global_thread();
    int sum = 0;
    if (threadIdx.x % 32 < 12) {
        for (int lane = 0; lane < 12; ++lane) sum += shuffle(in[i], lane, lower_lanes);
    } else {
        for (int lane = 12; lane < 32; ++lane) sum += shuffle(in[i], lane, ~lower_lanes);
    }
    out[i] = sum;
}

__global__ void reverse_warps(int* out, const int* in, bool with_sync) {
    Shared shared;
    int* tile = shared.take<int>(blockDim.x);
    const int thread = static_cast<int>(threadIdx.x);
    tile[thread] = in[global_thread()];
    if (with_sync) warp_sync();
    out[global_thread()] = tile[thread / 32 * 32 + 31 - thread % 32];
}

__global__ void sum_blocks(float* out, const float* in, bool with_barrier) {
    Shared shared;
    float* sums = shared.take<float>(block_threads);
    const int thread = static_cast<int>(threadIdx.x);
    sums[thread] = in[global_thread()];
    for (int half = block_threads / 2; half > 0; half /= 2) {
        if (with_barrier) block_sync();
        if (thread < half) sums[thread] += sums[thread + half];
    }
    if (thread == 0) out[blockIdx.x] = sums[0];
}

template <bool with_wait>
__global__ void double_through_copies(float* out, const float* in, int stages, std::int64_t wanted) {
    Shared shared;
    float* tile = shared.take<float>(8 * block_threads);  // two stages
    const std::int64_t quad = 4 * static_cast<std::int64_t>(threadIdx.x);
    const auto start = [&](int stage) {
        if (stage < stages) {
            const std::int64_t at = stage * 4 * block_threads + quad;
            copy_async_16(tile + stage % 2 * 4 * block_threads + quad, in + at, at < wanted);
        }
        copy_commit();
    };
    start(0);
    for (int stage = 0; stage < stages; ++stage) {
        start(stage + 1);
        if constexpr (with_wait) copy_wait<1>();
        block_sync();
        // What another thread copied.
        const int from = (static_cast<int>(threadIdx.x) + 1) % block_threads;
        for (int i = 0; i < 4; ++i)
            out[stage * 4 * block_threads + 4 * from + i] = 2 * tile[stage % 2 * 4 * block_threads + 4 * from + i];
        block_sync();
    }
}
template __global__ void double_through_copies<true>(float*, const float*, int, std::int64_t);
template __global__ void double_through_copies<false>(float*, const float*, int, std::int64_t);

__global__ void wait_without_commit(float* out, const float* in) {
    Shared shared;
    float* tile = shared.take<float>(4);
    copy_async_16(tile, in);
    copy_wait<0>();
    out[0] = tile[0];
}

__global__ void multiply_bf16(float* d, const bfloat16* a, const bfloat16* b) {
    Shared shared;
    bfloat16* rows_a = shared.take<bfloat16>(16 * 16);
    bfloat16* rows_b = shared.take<bfloat16>(16 * 8);
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = lane; i < 16 * 16; i += 32) rows_a[i] = a[i];
    for (int i = lane; i < 16 * 8; i += 32) rows_b[i] = b[i];
    block_sync();
    unsigned fragment_a[4], fragment_b[2];
    // Matrices: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15.
    load_matrix_x4(fragment_a, rows_a + lane % 16 * 16 + lane / 16 * 8);
    load_matrix_x2_transposed(fragment_b, rows_b + lane % 16 * 8);
    float sums[4] = {};
    multiply_add_bf16(sums, fragment_a, fragment_b);
    for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

__global__ void multiply_tf32(float* d, const float* a, const float* b) {
    const int lane = static_cast<int>(threadIdx.x), row = lane / 4, column = lane % 4;
    unsigned fragment_a[4], fragment_b[2];
    for (int i = 0; i < 4; ++i) fragment_a[i] = round_tf32(a[(row + i % 2 * 8) * 8 + column + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) fragment_b[i] = round_tf32(b[(column + i * 4) * 8 + row]);
    float sums[4] = {};
    multiply_add_tf32(sums, fragment_a, fragment_b);
    for (int i = 0; i < 4; ++i) d[(row + i / 2 * 8) * 8 + column * 2 + i % 2] = sums[i];
}

__global__ void load_fragments(unsigned* out, const bfloat16* matrices, bool transposed) {
    Shared shared;
    bfloat16* rows = shared.take<bfloat16>(4 * 64);
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = lane; i < 4 * 64; i += 32) rows[i] = matrices[i];
    warp_sync();
    unsigned fragment[4];
    if (transposed)
        load_matrix_x4_transposed(fragment, rows + lane * 8);
    else
        load_matrix_x4(fragment, rows + lane * 8);
    for (int i = 0; i < 4; ++i) out[4 * lane + i] = fragment[i];
}

__global__ void shuffle_in_a_branch(int* out) {
    if (threadIdx.x % 32 < 8) out[threadIdx.x] = shuffle(1, 0);
    block_sync();
}

__global__ void return_before_block_sync(int* out) {
    if (threadIdx.x >= 100) return;
    block_sync();
    out[threadIdx.x] = 1;
}

__global__ void sync_at_two_places(int* out) {
    if (threadIdx.x < 64)
        block_sync();
    else
        block_sync();
    out[threadIdx.x] = 1;
}

__global__ void two_collectives(int* out) {
    if (threadIdx.x < 3)
        out[threadIdx.x] = shuffle_xor(1, 1);
    else
        out[threadIdx.x] = shuffle_down(1, 1);
}

__global__ void one_collective_at_two_places(int* out) {
    if (threadIdx.x % 2 == 0)
        out[threadIdx.x] = shuffle_xor(1, 1);
    else
        out[threadIdx.x] = shuffle_xor(2, 1);
}

__global__ void mask_without_itself(int* out) { out[threadIdx.x] = shuffle(1, 0, 0xfffffff7u); }

__global__ void exited_lane_in_mask(int* out) {
    if (threadIdx.x % 32 == 31) return;
    out[threadIdx.x] = shuffle(1, 0);
}

__global__ void take_two_tiles(float* out) {
    Shared shared;
    float* first = shared.take<float>(64);
    float* second = shared.take<float>(65);
    if (threadIdx.x == 0) out[0] = first[0] = second[64] = 0;
}

__global__ void take_by_thread(float* out) {
    Shared shared;
    out[threadIdx.x] = shared.take<float>(threadIdx.x + 1)[0];
}

__global__ void write_past_tile(float* out) {
    Shared shared;
    float* first = shared.take<float>(30);
    float* second = shared.take<float>(30);
    for (int i = 0; i < 30; ++i) first[i] = second[i] = 0;
    first[30] = 1;
    out[0] = first[0];
}

__global__ void copy_past_tile(const float* in) {
    Shared shared;
    float* tile = shared.take<float>(4 * blockDim.x - 4);
    copy_async_16(tile + 4 * threadIdx.x, in);
}

__global__ void copy_off_alignment(const float* in) {
    Shared shared;
    copy_async_16(shared.take<float>(8) + 1, in);
}

namespace {
struct AddsWhenDestroyed {
    int* destroyed;
    ~AddsWhenDestroyed() { atomic_add(destroyed, 1); }
};
}  // namespace

__global__ void throw_in_thread_five(int* destroyed) {
    const AddsWhenDestroyed object{destroyed};
    block_sync();
    if (blockIdx.x == 2 && threadIdx.x == 5) throw std::runtime_error("thread 5 of block 2");
    block_sync();
    if (threadIdx.x < 32) warp_sync();
}

__global__ void catch_and_wait_again(int* out) {
    warp_sync();
    if (threadIdx.x == 0) throw std::runtime_error("thread 0");
    try {
        block_sync();
    } catch (...) {
        block_sync();
    }
    out[threadIdx.x] = 1;
}

__global__ void launch_inside(Stream* stream) { launch(*stream, "inner", 1, 1, 0, mask_without_itself, nullptr); }

}  // namespace cover::cuda::COVER_CUDA_BUILD
