#include "kernels/elementwise.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const ElementwiseParams& params) { require_positive("elementwise", "count", params.count); }

void validate(const ConcatParams& params) {
    require_positive("concat", "pixels", params.pixels);
    require_positive("concat", "c_a", params.c_a);
    require_positive("concat", "c_b", params.c_b);
}

std::span<const AddVariant> add_table() {
    static const auto table = cuda::with_cuda<AddVariant>({ref::add_rows(), cpu::add_rows()}, &cuda::Rows::add);
    return table;
}

std::span<const ScaleVariant> scale_table() {
    static const auto table = cuda::with_cuda<ScaleVariant>({ref::scale_rows(), cpu::scale_rows()}, &cuda::Rows::scale);
    return table;
}

std::span<const CastVariant> cast_table() {
    static const auto table = cuda::with_cuda<CastVariant>({ref::cast_rows(), cpu::cast_rows()}, &cuda::Rows::cast);
    return table;
}

std::span<const ConcatVariant> concat_table() {
    static const auto table =
        cuda::with_cuda<ConcatVariant>({ref::concat_rows(), cpu::concat_rows()}, &cuda::Rows::concat);
    return table;
}

std::span<const SplitVariant> split_table() {
    static const auto table = cuda::with_cuda<SplitVariant>({ref::split_rows(), cpu::split_rows()}, &cuda::Rows::split);
    return table;
}

void add(View y, ConstView a, ConstView b, const ElementwiseParams& params, Stream& stream) {
    validate(params);
    require_view("add", "y", y, a.dtype, params.count);
    require_view("add", "a", a, a.dtype, params.count);
    require_view("add", "b", b, a.dtype, params.count);
    select("add", add_table(), params, a.dtype, stream).run(y, a, b, params, stream);
}

void scale(View y, ConstView x, const ElementwiseParams& params, Stream& stream) {
    validate(params);
    require_view("scale", "y", y, x.dtype, params.count);
    require_view("scale", "x", x, x.dtype, params.count);
    select("scale", scale_table(), params, x.dtype, stream).run(y, x, params, stream);
}

void cast(View y, ConstView x, const ElementwiseParams& params, Stream& stream) {
    validate(params);
    require_view("cast", "y", y, cast_type(x.dtype), params.count);
    require_view("cast", "x", x, x.dtype, params.count);
    select("cast", cast_table(), params, x.dtype, stream).run(y, x, params, stream);
}

void concat(View y, ConstView a, ConstView b, const ConcatParams& params, Stream& stream) {
    validate(params);
    require_view("concat", "y", y, a.dtype, params.pixels * (params.c_a + params.c_b));
    require_view("concat", "a", a, a.dtype, params.pixels * params.c_a);
    require_view("concat", "b", b, a.dtype, params.pixels * params.c_b);
    select("concat", concat_table(), params, a.dtype, stream).run(y, a, b, params, stream);
}

void split(View a, View b, ConstView y, const ConcatParams& params, Stream& stream) {
    validate(params);
    require_view("split", "a", a, y.dtype, params.pixels * params.c_a);
    require_view("split", "b", b, y.dtype, params.pixels * params.c_b);
    require_view("split", "y", y, y.dtype, params.pixels * (params.c_a + params.c_b));
    select("split", split_table(), params, y.dtype, stream).run(a, b, y, params, stream);
}

}  // namespace cover
