// Vector code of max pooling, once per instruction set.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct MaxPoolParams;
}  // namespace cover

namespace cover::cpu {

// One row of windows: the first pixels of its two (2D) or four (3D) rows of x, in memory order.
struct PoolRow {
    std::int64_t offsets[4];  // in elements from the start of x (or dx)
    int rows;                 // 2 or 4
    std::int64_t width;       // of y
};

struct PoolKernels {
    void (*forward)(float* y, const float* x, PoolRow row, std::int64_t channels);
    void (*backward)(float* dx, const float* dy, const float* x, PoolRow row, std::int64_t channels);
};

namespace avx2 {
extern const PoolKernels pool_kernels;
}
namespace avx512 {
extern const PoolKernels pool_kernels;
}

void max_pool(const PoolKernels& kernels, View y, ConstView x, const MaxPoolParams& params, Stream& stream);
void max_pool_backward(const PoolKernels& kernels, View dx, ConstView dy, ConstView x, const MaxPoolParams& params,
                       Stream& stream);

}  // namespace cover::cpu
