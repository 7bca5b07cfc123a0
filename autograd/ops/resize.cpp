#include "kernels/resize.h"

#include "autograd/ops.h"

namespace cover {

Var upsample(Graph& graph, const Var& x, bool align_corners, double gain) {
    const Shape s = x.shape();
    const UpsampleParams params{
        .n = s[0], .grid = graph.grid_of(s), .channels = s[4], .align_corners = align_corners, .gain = gain};
    const std::int64_t depth = graph.spatial_dims() == 2 ? s[1] : 2 * s[1];
    const Shape doubled{s[0], depth, 2 * s[2], 2 * s[3], s[4]};
    const auto compute = [doubled, params](const Tensor& input, Stream& stream) {
        Tensor y = Tensor::empty(doubled, input.dtype(), input.device());
        upsample(y.view(), input.view(), params, stream);
        return y;
    };

    // The gradient needs no values: only the place of x is kept.
    const auto backward = [s, params, place = x.place()](Graph& g, const Tensor& dy) {
        Tensor dx = Tensor::empty(s, dy.dtype(), dy.device());
        upsample_backward(dx.view(), dy.view(), params, g.stream());
        g.accumulate(place, std::move(dx));
    };
    if (x.pending && x.pending->resamples() && !align_corners && gain == 1.0) {
        PendingPart part = x.pending->parts[0];
        part.params.resampling = Resampling::upsample;
        return graph.record_pending("upsample", doubled, {std::move(part)}, {&x}, backward);
    }
    const Var result = graph.record("upsample", compute(graph.value(x), graph.stream()), {&x}, backward);
    return graph.with_recipe(result,
                             [compute, x = Kept(x)](Stream& stream) { return compute(x.value(stream), stream); });
}

}  // namespace cover
