// Loops that do one thing as fast as it can be done with the instructions that the rows use: a row's roof. Their
// results are looked at only so that the compiler keeps them.
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace roof {

constexpr int chains = 8;          // independent sums of a thread or a warp: more than the latency of one asks for
constexpr int pieces = 4;          // of 16 bytes, per thread of the copy
constexpr float never = -12345.f;  // no sum of positive numbers is this

__global__ void copy(uint4* to, const uint4* from, std::int64_t count) {
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x * pieces + threadIdx.x;
    uint4 held[pieces] = {};
    for (int i = 0; i < pieces; ++i)
        if (first + i * blockDim.x < count) held[i] = from[first + i * blockDim.x];
    for (int i = 0; i < pieces; ++i)
        if (first + i * blockDim.x < count) to[first + i * blockDim.x] = held[i];
}

__global__ void fma_fp32(float* sink, std::int64_t rounds) {
    float sum[2 * chains];
    for (int i = 0; i < 2 * chains; ++i) sum[i] = static_cast<float>(threadIdx.x + i);
    const float a = 0.999f, b = 0.001f + static_cast<float>(blockIdx.x) * 1e-9f;
    for (std::int64_t r = 0; r < rounds; ++r) {
#pragma unroll
        for (int repeat = 0; repeat < 8; ++repeat)
#pragma unroll
            for (int i = 0; i < 2 * chains; ++i) sum[i] = fmaf(sum[i], a, b);
    }
    for (int i = 1; i < 2 * chains; ++i) sum[0] += sum[i];
    if (sum[0] == never) *sink = sum[0];
}

template <bool tf32>
__global__ void mma(float* sink, std::int64_t rounds) {
    float sum[chains][4] = {};
    // Small numbers of many bits: the units draw as much power as they do at work.
    const unsigned bits = 0x3c8b3c71u + 0x00110013u * (threadIdx.x % 32);
    const unsigned a[4] = {bits, bits ^ 0x00120031u, bits ^ 0x00210052u, bits ^ 0x00540007u};
    const unsigned b[2] = {bits ^ 0x00310019u, bits ^ 0x00070045u};
    for (std::int64_t r = 0; r < rounds; ++r) {
#pragma unroll
        for (int i = 0; i < chains; ++i) {
            if constexpr (tf32)
                multiply_add_tf32(sum[i], a, b);
            else
                multiply_add_bf16(sum[i], a, b);
        }
    }
    float total = 0;
    for (int i = 0; i < chains; ++i)
        for (int j = 0; j < 4; ++j) total += sum[i][j];
    if (total == never) *sink = total;
}

// Of many waves of blocks, so that the last one, which leaves units idle, is a small part.
constexpr unsigned blocks = this_device == Device::cuda ? 32768 : 1;

}  // namespace roof

double queue_roof(Roof kind, std::int64_t size, Stream& stream) {
    if (kind == Roof::copy) {
        const std::int64_t count = size / static_cast<std::int64_t>(sizeof(uint4));
        Workspace<uint4> from(count, stream), to(count, stream);
        launch(stream, "copy", blocks_for(count, threads_per_block * roof::pieces), threads_per_block, 0, roof::copy,
               to.data(), from.data(), count);
        return 2.0 * static_cast<double>(count) * sizeof(uint4);
    }
    Workspace<float> sink(1, stream);
    const double threads = static_cast<double>(roof::blocks) * threads_per_block, rounds = static_cast<double>(size);
    if (kind == Roof::fma_fp32) {
        launch(stream, "fma_fp32", roof::blocks, threads_per_block, 0, roof::fma_fp32, sink.data(), size);
        return threads * rounds * 8 * 2 * roof::chains * 2;
    }
    const bool tf32 = kind == Roof::mma_tf32;
    launch(stream, tf32 ? "mma_tf32" : "mma_bf16", roof::blocks, threads_per_block, 0,
           tf32 ? roof::mma<true> : roof::mma<false>, sink.data(), size);
    return threads / 32 * rounds * roof::chains * 2.0 * 16 * 8 * (tf32 ? 8 : 16);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
