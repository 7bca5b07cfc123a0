#include "kernels/pool.h"

#include "autograd/ops.h"

namespace cover {

Var max_pool(Graph& graph, const Var& x) {
    const Shape& s = x.shape();
    const MaxPoolParams params{.n = s[0], .grid = graph.grid_of(x.value), .channels = s[4]};
    const std::int64_t depth = graph.spatial_dims() == 2 ? s[1] : s[1] / 2;
    Tensor y = Tensor::empty({s[0], depth, s[2] / 2, s[3] / 2, s[4]}, x.value.dtype(), x.value.device());
    max_pool(y.view(), x.value.view(), params, graph.stream());

    return graph.record("max_pool", std::move(y), {&x}, [=, x = Kept(x)](Graph& g, const Tensor& dy) {
        Tensor dx = Tensor::empty(x.shape(), dy.dtype(), dy.device());
        max_pool_backward(dx.view(), dy.view(), x.value(g.stream()).const_view(), params, g.stream());
        g.accumulate(x.place(), std::move(dx));
    });
}

}  // namespace cover
