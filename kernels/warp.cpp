#include "kernels/warp.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const WarpParams& params) {
    require_grid("warp", params.n, params.grid);
    require_positive("warp", "channels", params.channels);
}

std::span<const WarpVariant> warp_table() {
    static const auto table = cuda::with_cuda<WarpVariant>({ref::warp_rows(), cpu::warp_rows()}, &cuda::Rows::warp);
    return table;
}

std::span<const WarpBackwardVariant> warp_backward_table() {
    static const auto table = cuda::with_cuda<WarpBackwardVariant>(
        {ref::warp_backward_rows(), cpu::warp_backward_rows()}, &cuda::Rows::warp_backward);
    return table;
}

void warp(View y, ConstView source, ConstView field, const WarpParams& params, Stream& stream) {
    validate(params);
    require_view("warp", "y", y, source.dtype, params.source_count());
    require_view("warp", "source", source, source.dtype, params.source_count());
    require_view("warp", "field", field, real_type(source.dtype), params.field_count());
    select("warp", warp_table(), params, source.dtype, stream).run(y, source, field, params, stream);
}

void warp_backward(View dsource, View dfield, ConstView dy, ConstView source, ConstView field, const WarpParams& params,
                   Stream& stream) {
    validate(params);
    require_view_if("warp_backward", "dsource", dsource, dy.dtype, params.source_count());
    require_view_if("warp_backward", "dfield", dfield, real_type(dy.dtype), params.field_count());
    require_view("warp_backward", "dy", dy, dy.dtype, params.source_count());
    require_view("warp_backward", "source", source, dy.dtype, params.source_count());
    require_view("warp_backward", "field", field, real_type(dy.dtype), params.field_count());
    select("warp_backward", warp_backward_table(), params, dy.dtype, stream)
        .run(dsource, dfield, dy, source, field, params, stream);
}

}  // namespace cover
