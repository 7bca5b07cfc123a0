#include "kernels/pool.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const MaxPoolParams& params) {
    require_grid("max_pool", params.n, params.grid);
    require_positive("max_pool", "channels", params.channels);
    const Grid& grid = params.grid;
    require(grid.h % 2 == 0 && grid.w % 2 == 0 && (grid.spatial_dims == 2 || grid.d % 2 == 0), ErrorKind::internal,
            "[max_pool] every pooled side must be even, got ", grid.d, " x ", grid.h, " x ", grid.w);
}

std::span<const MaxPoolVariant> max_pool_table() {
    static const auto table =
        cuda::with_cuda<MaxPoolVariant>({ref::max_pool_rows(), cpu::max_pool_rows()}, &cuda::Rows::max_pool);
    return table;
}

std::span<const MaxPoolBackwardVariant> max_pool_backward_table() {
    static const auto table = cuda::with_cuda<MaxPoolBackwardVariant>(
        {ref::max_pool_backward_rows(), cpu::max_pool_backward_rows()}, &cuda::Rows::max_pool_backward);
    return table;
}

void max_pool(View y, ConstView x, const MaxPoolParams& params, Stream& stream) {
    validate(params);
    require_view("max_pool", "y", y, x.dtype, params.y_count());
    require_view("max_pool", "x", x, x.dtype, params.x_count());
    select("max_pool", max_pool_table(), params, x.dtype, stream).run(y, x, params, stream);
}

void max_pool_backward(View dx, ConstView dy, ConstView x, const MaxPoolParams& params, Stream& stream) {
    validate(params);
    require_view("max_pool_backward", "dx", dx, x.dtype, params.x_count());
    require_view("max_pool_backward", "dy", dy, x.dtype, params.y_count());
    require_view("max_pool_backward", "x", x, x.dtype, params.x_count());
    select("max_pool_backward", max_pool_backward_table(), params, x.dtype, stream).run(dx, dy, x, params, stream);
}

}  // namespace cover
