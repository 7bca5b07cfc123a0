// Vector code of the reductions, once per instruction set.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct ReduceParams;
}  // namespace cover

namespace cover::cpu {

struct ReduceKernels {
    double (*sum_of_squares)(const float* x, std::int64_t count);
};

namespace avx2 {
extern const ReduceKernels reduce_kernels;
}
namespace avx512 {
extern const ReduceKernels reduce_kernels;
}

void sum_of_squares(const ReduceKernels& kernels, View sum, ConstView x, const ReduceParams& params, Stream& stream);

}  // namespace cover::cpu
