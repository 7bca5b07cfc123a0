#include "kernels/pool.h"

#include "autograd/ops.h"

namespace cover {

Var max_pool(Graph& graph, const Var& x) {
    const Shape& s = x.shape();
    const MaxPoolParams params{.n = s[0], .grid = graph.grid_of(s), .channels = s[4]};
    const std::int64_t depth = graph.spatial_dims() == 2 ? s[1] : s[1] / 2;
    validate(params);
    const Shape pooled{s[0], depth, s[2] / 2, s[3] / 2, s[4]};
    const auto backward = [params, x = Kept(x)](Graph& g, const Tensor& dy) {
        Tensor dx = Tensor::empty(x.shape(), dy.dtype(), dy.device());
        max_pool_backward(dx.view(), dy.view(), x.value(g.stream()).const_view(), params, g.stream());
        g.accumulate(x.place(), std::move(dx));
    };
    if (x.pending && x.pending->resamples()) {
        PendingPart part = x.pending->parts[0];
        part.params.resampling = Resampling::max_pool;
        return graph.record_pending("max_pool", pooled, {std::move(part)}, {&x}, backward);
    }
    Tensor y = Tensor::empty(pooled, x.dtype(), x.device());
    max_pool(y.view(), graph.value(x).const_view(), params, graph.stream());
    return graph.record("max_pool", std::move(y), {&x}, backward);
}

}  // namespace cover
