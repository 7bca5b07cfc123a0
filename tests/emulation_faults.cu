// Faults that only a sanitizer sees, in a program of its own: emulation_faults FAULT. Built once with the address and
// once with the thread sanitizer; tests/emulation_faults_test.cpp runs it. "clean" exits with 0 in both.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace {

constexpr int threads = 64;
constexpr std::size_t tile_bytes = Shared::shared_bytes_of<float>(4 * threads);

struct Counted {
    int* count;
    ~Counted() { atomic_add(count, 1); }
};

// Copies, a barrier between write and read and between read and write, a sum within each warp, and a total for which
// every thread waits.
__global__ void sum_of_squares(float* sums, int* count, const float* in, int rounds) {
    const Counted object{count};
    Shared shared;
    float* tile = shared.take<float>(4 * threads);
    float* warps = shared.take<float>(threads / 32);
    const int thread = static_cast<int>(threadIdx.x);
    float total = 0;
    for (int round = 0; round < rounds; ++round) {
        copy_async_16(tile + 4 * thread, in + 4 * thread);
        copy_commit();
        copy_wait<0>();
        block_sync();
        const float4 quad = *reinterpret_cast<const float4*>(tile + 4 * (threads - 1 - thread));
        float sum = quad.x * quad.x + quad.y * quad.y + quad.z * quad.z + quad.w * quad.w;
        for (int lanes = 16; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
        if (thread % 32 == 0) warps[thread / 32] = sum;
        block_sync();
        total += warps[0] + warps[1];
        tile[4 * thread] = total;
        warp_sync();
        total += 0 * tile[4 * (thread ^ 1)];
        block_sync();
    }
    if (thread == 0) sums[blockIdx.x] = total;
}

__global__ void over_read(float* out) {
    Shared shared;
    const float* tile = shared.take<float>(threads);
    shared.take<float>(threads);
    const float* end = tile + threadIdx.x;
    out[threadIdx.x] = end[1];
}

__global__ void over_read_global(float* out, const float* in) {
    Shared shared;
    float* tile = shared.take<float>(4 * threads);
    copy_async_16(tile + 4 * threadIdx.x, in + 4 * (threadIdx.x + 1));
    copy_commit();
    copy_wait<0>();
    out[threadIdx.x] = tile[4 * threadIdx.x];
}

__global__ void throw_while_others_wait(int* count) {
    const Counted object{count};
    // An array, so that the address sanitizer has something to track on every stack.
    volatile char local[200] = {};
    local[threadIdx.x] = 1;
    block_sync();
    if (threadIdx.x == 3) throw std::runtime_error("thread 3");
    block_sync();
    atomic_add(count, 1000 * local[threadIdx.x]);
}

__global__ void equal_writers(float* out) {
    if (threadIdx.x % 32 == 7) out[0] = 1;
}

__global__ void equal_blocks(float* out) {
    if (threadIdx.x == 0) out[0] = 1;
}

// Two neighbours each write a cell.
__global__ void equal_blocks_of_many(float* out) {
    if (threadIdx.x == 0) out[blockIdx.x / 2 % threads] = 1;
}

__global__ void write_after_read(float* out) {
    Shared shared;
    float* tile = shared.take<float>(threads);
    const int thread = static_cast<int>(threadIdx.x);
    tile[thread] = 1;
    block_sync();
    const float neighbour = tile[(thread + 1) % threads];
    // A block_sync is missing; every value that may be read is 1.
    tile[thread] = 1;
    block_sync();
    out[thread] = neighbour + tile[thread];
}

__global__ void shuffle_for_a_barrier(float* out) {
    Shared shared;
    float* tile = shared.take<float>(threads);
    const int thread = static_cast<int>(threadIdx.x);
    tile[thread] = 1;
    const float one = shuffle(1.0f, 0);  // orders no memory
    out[thread] = one + tile[thread ^ 1];
}

bool run(const std::string& fault) {
    ThreadPool pool(2);
    Stream stream;
    stream.device = this_device;
    stream.pool = &pool;
    struct alignas(16) Quad {
        float values[4];
    };
    const std::vector<Quad> in(threads, {{1, 2, 3, 4}});
    std::vector<float> out(threads);
    const float* from = in.data()->values;
    int count = 0;
    if (fault == "clean") {
        constexpr unsigned blocks = 40;
        launch(stream, "sum_of_squares", blocks, threads, tile_bytes + 16, sum_of_squares, out.data(), &count, from, 3);
        for (unsigned block = 0; block < blocks; ++block)
            if (out[block] != 3 * threads * 30) return false;
        return count == blocks * threads;
    }
    if (fault == "exception") {
        for (int i = 0; i < 4; ++i) {
            try {
                launch(stream, "throw_while_others_wait", 1, threads, 0, throw_while_others_wait, &count);
                return false;
            } catch (const std::runtime_error&) {
            }
        }
        return count == 4 * threads && run("clean");
    }
    if (fault == "over_read")
        launch(stream, "over_read", 1, threads, 2 * threads * sizeof(float), over_read, out.data());
    else if (fault == "over_read_global")
        launch(stream, "over_read_global", 1, threads, tile_bytes, over_read_global, out.data(), from);
    else if (fault == "equal_writers")
        launch(stream, "equal_writers", 1, threads, 0, equal_writers, out.data());
    else if (fault == "equal_blocks")
        launch(stream, "equal_blocks", 2, threads, 0, equal_blocks, out.data());
    else if (fault == "equal_blocks_of_many")
        launch(stream, "equal_blocks_of_many", 2 * threads, threads, 0, equal_blocks_of_many, out.data());
    else if (fault == "write_after_read")
        launch(stream, "write_after_read", 1, threads, threads * sizeof(float), write_after_read, out.data());
    else if (fault == "shuffle_for_a_barrier")
        launch(stream, "shuffle_for_a_barrier", 1, threads, threads * sizeof(float), shuffle_for_a_barrier, out.data());
    else
        return false;
    return true;
}

}  // namespace
}  // namespace cover::cuda::COVER_CUDA_BUILD

int main(int argc, char** argv) {
    const bool right = argc == 2 && cover::cuda::emulated::run(argv[1]);
    if (!right) std::fprintf(stderr, "wrong result, or no such fault\n");
    return right ? 0 : 3;
}
