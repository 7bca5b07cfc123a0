// Sum of squares, for the global gradient norm (spec section 7) and for finite checks.
#pragma once

#include <span>

#include "kernels/variant.h"

namespace cover {

struct ReduceParams {
    std::int64_t count = 1;
};

void validate(const ReduceParams& params);  // Error(internal) unless count >= 1

using SumOfSquaresRun = void(View sum, ConstView x, const ReduceParams&, Stream&);
using SumOfSquaresVariant = Variant<ReduceParams, SumOfSquaresRun>;

std::span<const SumOfSquaresVariant> sum_of_squares_table();

// sum (1 element, float64 for every type of x) is overwritten. Summed in blocks of fixed size, in double, in block
// order.
SumOfSquaresRun sum_of_squares;

namespace ref {
std::span<const SumOfSquaresVariant> sum_of_squares_rows();
}
namespace cpu {
std::span<const SumOfSquaresVariant> sum_of_squares_rows();
}

}  // namespace cover
