#include "autograd/var.h"

#include "kernels/elementwise.h"
#include "kernels/pool.h"
#include "kernels/resize.h"

namespace cover {
namespace {

// (N,D,H,W,channels) of one part of a value (N,D,H,W,*), in its type.
Tensor made_part(const PendingPart& part, int spatial_dims, Shape shape, Stream& stream) {
    const PendingParams& pending = part.params;
    const Shape& s = part.x.shape();
    const Grid grid{spatial_dims, s[1], s[2], s[3]};
    Tensor value = part.x;
    if (pending.groups > 0) {
        value = Tensor::empty(s, part.x.dtype(), part.x.device());
        group_norm_apply(value.view(), part.x.view(), part.mean.view(), part.rstd.view(), part.gamma.view(),
                         part.beta.view(),
                         {.n = s[0],
                          .pixels = grid.pixels(),
                          .channels = pending.channels,
                          .groups = pending.groups,
                          .slope = pending.slope},
                         stream);
    }
    if (pending.resampling == Resampling::none) return value;
    shape[4] = pending.channels;
    Tensor resampled = Tensor::empty(shape, part.x.dtype(), part.x.device());
    if (pending.resampling == Resampling::max_pool)
        max_pool(resampled.view(), value.const_view(), {s[0], grid, pending.channels}, stream);
    else
        upsample(resampled.view(), value.const_view(), {.n = s[0], .grid = grid, .channels = pending.channels}, stream);
    return resampled;
}

}  // namespace

Pending PendingPart::views() const {
    if (params.groups == 0) return {x.view(), {}, {}, {}, {}};
    return {x.view(), mean.view(), rstd.view(), gamma.view(), beta.view()};
}

Tensor PendingValue::make(Stream& stream) const {
    const Tensor first = made_part(parts[0], spatial_dims, shape, stream);
    if (parts.size() == 1) return first;
    const Tensor second = made_part(parts[1], spatial_dims, shape, stream);
    Tensor joined = Tensor::empty(shape, first.dtype(), first.device());
    concat(joined.view(), first.view(), second.view(),
           {.pixels = shape.count() / shape[4], .c_a = first.side(4), .c_b = second.side(4)}, stream);
    return joined;
}

Kept::Kept(const Var& var) : shape_(var.shape()), node_(var.node), recipe_(var.recipe) {
    if (var.pending) {
        const PendingValue& p = *var.pending;
        recipe_ = std::make_shared<const Recipe>(
            [p = PendingValue{p.spatial_dims, p.shape, p.parts}](Stream& stream) { return p.make(stream); });
    } else if (!recipe_) {
        value_ = var.value;
    }
}

}  // namespace cover
