#include "kernels/norm.h"

#include "autograd/ops.h"

namespace cover {

Var group_norm(Graph& graph, const Var& x, const Var& gamma, const Var& beta, std::int64_t groups, double epsilon,
               double slope) {
    const std::int64_t n = x.value.side(0);
    const GroupNormParams params{.n = n,
                                 .pixels = graph.grid_of(x.value).pixels(),
                                 .channels = x.value.side(4),
                                 .groups = groups,
                                 .epsilon = epsilon,
                                 .slope = slope};
    Tensor y = Tensor::empty(x.shape(), x.value.dtype(), x.value.device());
    const DType real = real_type(x.value.dtype());
    Tensor mean = Tensor::empty({n, groups}, real, x.value.device());
    Tensor rstd = Tensor::empty({n, groups}, real, x.value.device());
    group_norm(y.view(), mean.view(), rstd.view(), x.value.view(), gamma.value.view(), beta.value.view(), params,
               graph.stream());

    const Var result =
        graph.record("group_norm", std::move(y), {&x, &gamma, &beta}, [=, x = Kept(x)](Graph& g, const Tensor& dy) {
            Tensor dx = Tensor::empty(x.shape(), dy.dtype(), dy.device());
            group_norm_backward(dx.view(), g.gradient_of_leaf(gamma).view(), g.gradient_of_leaf(beta).view(), dy.view(),
                                x.value(g.stream()).const_view(), mean.view(), rstd.view(), gamma.value.view(),
                                beta.value.view(), params, g.stream());
            g.accumulate(x.place(), std::move(dx));
        });
    return graph.with_recipe(result, [params, x = Kept(x), gamma = gamma.value, beta = beta.value](Stream& stream) {
        const Tensor input = x.value(stream);
        Tensor again = Tensor::empty(input.shape(), input.dtype(), input.device());
        Tensor m = Tensor::empty({params.n, params.groups}, gamma.dtype(), input.device());
        Tensor r = Tensor::empty({params.n, params.groups}, gamma.dtype(), input.device());
        group_norm(again.view(), m.view(), r.view(), input.view(), gamma.view(), beta.view(), params, stream);
        return again;
    });
}

}  // namespace cover
