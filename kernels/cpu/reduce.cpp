#include "kernels/cpu/reduce.h"

#include "kernels/cpu/rows.h"
#include "kernels/reduce.h"

namespace cover::cpu {

void sum_of_squares(const ReduceKernels& kernels, View sum, ConstView x, const ReduceParams& params, Stream& stream) {
    const Pieces pieces = Pieces::of(params.count, 1, task_elements);
    Workspace<double> sums(pieces.count());
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        sums[piece] = kernels.sum_of_squares(x.as<float>() + pieces.begin(piece), pieces.length(piece));
    });
    double total = 0;
    for (std::int64_t piece = 0; piece < pieces.count(); ++piece) total += sums[piece];
    *sum.as<double>() = total;
}

std::span<const SumOfSquaresVariant> sum_of_squares_rows() {
    return simd_rows<SumOfSquaresVariant, ReduceParams, SumOfSquaresRun, sum_of_squares, avx2::reduce_kernels,
                     avx512::reduce_kernels>();
}

}  // namespace cover::cpu
