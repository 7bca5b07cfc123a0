#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/packs.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace reduce {

constexpr std::int64_t elements_per_block = 4096;

template <class T, int width>
__global__ void sum_slices(double* partials, const T* x, std::int64_t count) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const std::int64_t begin = blockIdx.x * elements_per_block;
    const std::int64_t end = begin + elements_per_block < count ? begin + elements_per_block : count;
    double sum = 0;
    const auto add = [&](const auto& values) {
        for (const float value : values) sum = std::fma(static_cast<double>(value), static_cast<double>(value), sum);
    };
    for (std::int64_t i = begin + threadIdx.x * width; i < end; i += threads_per_block * width) {
        if (i + width <= end) {
            float values[width];
            load(values, x + i);
            add(values);
        } else {
            for (; i < end; ++i) {
                float value[1];
                load(value, x + i);
                add(value);
            }
        }
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void sum_partials(double* sum, const double* partials, std::int64_t count) {
    Shared shared;
    const double total = block_sum_of(partials, count, 1, shared.take<double>(warps_per_block));
    if (threadIdx.x == 0) *sum = total;
}

template <class T>
void run(View sum, ConstView x, const ReduceParams& p, Stream& stream) {
    const unsigned blocks = blocks_for(p.count, elements_per_block);
    Workspace<double> partials(blocks, stream);
    with_width<T>(keeps_alignment<T>(elements_per_block, x), [&](auto width) {
        launch(stream, "sum_of_squares", blocks, threads_per_block, block_sum_bytes<double>(), sum_slices<T, width()>,
               partials.data(), x.as<T>(), p.count);
    });
    launch(stream, "sum_of_squares, partials", 1, threads_per_block, block_sum_bytes<double>(), sum_partials,
           sum.as<double>(), partials.data(), blocks);
}

}  // namespace reduce

std::span<const SumOfSquaresVariant> sum_of_squares_rows() {
    static constexpr SumOfSquaresVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ReduceParams>, reduce::run<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<ReduceParams>, reduce::run<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
