#include "kernels/reduce.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const ReduceParams& params) { require_positive("sum_of_squares", "count", params.count); }

std::span<const SumOfSquaresVariant> sum_of_squares_table() {
    static const auto table = cuda::with_cuda<SumOfSquaresVariant>(
        {ref::sum_of_squares_rows(), cpu::sum_of_squares_rows()}, &cuda::Rows::sum_of_squares);
    return table;
}

void sum_of_squares(View sum, ConstView x, const ReduceParams& params, Stream& stream) {
    validate(params);
    require_view("sum_of_squares", "sum", sum, DType::float64, 1);
    require_view("sum_of_squares", "x", x, x.dtype, params.count);
    select("sum_of_squares", sum_of_squares_table(), params, x.dtype, stream).run(sum, x, params, stream);
}

}  // namespace cover
