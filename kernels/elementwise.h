// Element-wise helpers of the graph: sum, scaling, channel concatenation and its inverse (spec sections 2 and 4), all
// arguments of one type; and the cast from one type to another.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct ElementwiseParams {
    std::int64_t count = 1;
    double factor = 1.0;  // scale only
};

struct ConcatParams {
    std::int64_t pixels = 1;  // N * D * H * W
    std::int64_t c_a = 8, c_b = 8;
};

void validate(const ElementwiseParams& params);  // Error(internal) unless count >= 1
void validate(const ConcatParams& params);       // Error(internal) unless every side is positive

using AddRun = void(View y, ConstView a, ConstView b, const ElementwiseParams&, Stream&);
using ScaleRun = void(View y, ConstView x, const ElementwiseParams&, Stream&);
using CastRun = void(View y, ConstView x, const ElementwiseParams&, Stream&);
using ConcatRun = void(View y, ConstView a, ConstView b, const ConcatParams&, Stream&);
using SplitRun = void(View a, View b, ConstView y, const ConcatParams&, Stream&);
using AddVariant = Variant<ElementwiseParams, AddRun>;
using ScaleVariant = Variant<ElementwiseParams, ScaleRun>;
using CastVariant = Variant<ElementwiseParams, CastRun>;
using ConcatVariant = Variant<ConcatParams, ConcatRun>;
using SplitVariant = Variant<ConcatParams, SplitRun>;

std::span<const AddVariant> add_table();
std::span<const ScaleVariant> scale_table();
// A row's dtype is that of x.
std::span<const CastVariant> cast_table();
std::span<const ConcatVariant> concat_table();
std::span<const SplitVariant> split_table();

// y = a + b; y may be a or b.
AddRun add;
// y = factor * x; y may be x.
ScaleRun scale;
// y = x in the type that a cast of x's leads to: float32 is rounded to nearest even, a NaN stays one.
CastRun cast;
constexpr DType cast_type(DType x) {
    switch (x) {
    case DType::float32: return DType::bfloat16;
    case DType::bfloat16: return DType::float32;
    case DType::float64: return DType::float64;  // the reference's: a copy
    }
    return x;
}
// y (N,D,H,W, Ca + Cb) = [a, b] by channel.
ConcatRun concat;
// The inverse of concat; it is also its gradient.
SplitRun split;

namespace ref {
std::span<const AddVariant> add_rows();
std::span<const ScaleVariant> scale_rows();
std::span<const CastVariant> cast_rows();
std::span<const ConcatVariant> concat_rows();
std::span<const SplitVariant> split_rows();
}  // namespace ref
namespace cpu {
std::span<const AddVariant> add_rows();
std::span<const ScaleVariant> scale_rows();
std::span<const CastVariant> cast_rows();
std::span<const ConcatVariant> concat_rows();
std::span<const SplitVariant> split_rows();
}  // namespace cpu

}  // namespace cover
