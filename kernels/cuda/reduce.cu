#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace reduce {

constexpr std::int64_t elements_per_block = 4096;

__global__ void sum_slices(double* partials, const float* x, std::int64_t count) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const std::int64_t begin = blockIdx.x * elements_per_block;
    const std::int64_t end = begin + elements_per_block < count ? begin + elements_per_block : count;
    double sum = 0;
    for (std::int64_t i = begin + threadIdx.x; i < end; i += threads_per_block)
        sum = std::fma(static_cast<double>(x[i]), static_cast<double>(x[i]), sum);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void sum_partials(double* sum, const double* partials, std::int64_t count) {
    Shared shared;
    const double total = block_sum_of(partials, count, 1, shared.take<double>(warps_per_block));
    if (threadIdx.x == 0) *sum = total;
}

void run(View sum, ConstView x, const ReduceParams& p, Stream& stream) {
    const unsigned blocks = blocks_for(p.count, elements_per_block);
    Workspace<double> partials(blocks, stream);
    launch(stream, "sum_of_squares", blocks, threads_per_block, block_sum_bytes<double>(), sum_slices, partials.data(),
           x.as<float>(), p.count);
    launch(stream, "sum_of_squares, partials", 1, threads_per_block, block_sum_bytes<double>(), sum_partials,
           sum.as<double>(), partials.data(), blocks);
}

}  // namespace reduce

std::span<const SumOfSquaresVariant> sum_of_squares_rows() {
    static constexpr SumOfSquaresVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ReduceParams>, reduce::run}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
