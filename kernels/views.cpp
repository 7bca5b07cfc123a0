#include "kernels/views.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const CutViewsParams& params) {
    require_grid("cut_views", params.n, params.image);
    require_grid("cut_views", params.n, params.patch);
    require_positive("cut_views", "channels", params.channels);
    require(params.draws >= 1 && params.draws <= params.n, ErrorKind::internal, "[cut_views] ", params.draws,
            " draws of ", params.n, " samples");
    const Grid &image = params.image, &patch = params.patch;
    require(image.spatial_dims == patch.spatial_dims && patch.d <= image.d && patch.h <= image.h && patch.w <= image.w,
            ErrorKind::internal, "[cut_views] a patch of ", patch.d, " x ", patch.h, " x ", patch.w,
            " does not fit in an image of ", image.d, " x ", image.h, " x ", image.w);
}

std::span<const CutViewsVariant> cut_views_table() {
    static const auto table =
        cuda::with_cuda<CutViewsVariant>({ref::cut_views_rows(), cpu::cut_views_rows()}, &cuda::Rows::cut_views);
    return table;
}

void cut_views(View moving, View fixed, View field, View mask, View facts, ConstView images, ConstView elastic,
               ConstView draws, const CutViewsParams& params, Stream& stream) {
    validate(params);
    require_view("cut_views", "moving", moving, images.dtype, params.patch_count());
    require_view("cut_views", "fixed", fixed, images.dtype, params.patch_count());
    require_view("cut_views", "field", field, images.dtype, params.field_count());
    require_view("cut_views", "mask", mask, images.dtype, params.mask_count());
    require_view("cut_views", "facts", facts, DType::float64, 2 * params.draws);
    require_view("cut_views", "images", images, images.dtype, params.image_count());
    require_view_if("cut_views", "elastic", elastic, images.dtype, params.elastic_count());
    require_view("cut_views", "draws", draws, DType::float64, record_elements<ViewDraw>(params.draws));
    select("cut_views", cut_views_table(), params, images.dtype, stream)
        .run(moving, fixed, field, mask, facts, images, elastic, draws, params, stream);
}

}  // namespace cover
