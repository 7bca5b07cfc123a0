#include "kernels/resize.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const UpsampleParams& params) {
    require_grid("upsample", params.n, params.grid);
    require_positive("upsample", "channels", params.channels);
}

std::span<const UpsampleVariant> upsample_table() {
    static const auto table =
        cuda::with_cuda<UpsampleVariant>({ref::upsample_rows(), cpu::upsample_rows()}, &cuda::Rows::upsample);
    return table;
}

std::span<const UpsampleBackwardVariant> upsample_backward_table() {
    static const auto table = cuda::with_cuda<UpsampleBackwardVariant>(
        {ref::upsample_backward_rows(), cpu::upsample_backward_rows()}, &cuda::Rows::upsample_backward);
    return table;
}

void upsample(View y, ConstView x, const UpsampleParams& params, Stream& stream) {
    validate(params);
    require_view("upsample", "y", y, x.dtype, params.y_count());
    require_view("upsample", "x", x, x.dtype, params.x_count());
    select("upsample", upsample_table(), params, x.dtype, stream).run(y, x, params, stream);
}

void upsample_backward(View dx, ConstView dy, const UpsampleParams& params, Stream& stream) {
    validate(params);
    require_view("upsample_backward", "dx", dx, dy.dtype, params.x_count());
    require_view("upsample_backward", "dy", dy, dy.dtype, params.y_count());
    select("upsample_backward", upsample_backward_table(), params, dy.dtype, stream).run(dx, dy, params, stream);
}

}  // namespace cover
