#include "kernels/cpu/reduce.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

double sum_of_squares(const float* x, std::int64_t count) {
    return sum_in_double(x, count, [](auto v) { return v * v; });
}

}  // namespace

extern const ReduceKernels reduce_kernels;
const ReduceKernels reduce_kernels = {sum_of_squares};

}  // namespace cover::cpu::COVER_ISA
