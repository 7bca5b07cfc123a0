#include "kernels/resize.h"

#include "autograd/ops.h"

namespace cover {

Var upsample(Graph& graph, const Var& x, bool align_corners, double gain) {
    const Shape s = x.shape();
    const UpsampleParams params{
        .n = s[0], .grid = graph.grid_of(x.value), .channels = s[4], .align_corners = align_corners, .gain = gain};
    const std::int64_t depth = graph.spatial_dims() == 2 ? s[1] : 2 * s[1];
    Tensor y = Tensor::empty({s[0], depth, 2 * s[2], 2 * s[3], s[4]}, x.value.dtype(), x.value.device());
    upsample(y.view(), x.value.view(), params, graph.stream());

    // The gradient needs no values: only the place of x is kept.
    return graph.record("upsample", std::move(y), {&x},
                        [s, params, place = Var{{}, x.node}](Graph& g, const Tensor& dy) {
                            Tensor dx = Tensor::empty(s, dy.dtype(), dy.device());
                            upsample_backward(dx.view(), dy.view(), params, g.stream());
                            g.accumulate(place, std::move(dx));
                        });
}

}  // namespace cover
