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
    Tensor mean = Tensor::empty({n, groups}, x.value.dtype(), x.value.device());
    Tensor rstd = Tensor::empty({n, groups}, x.value.dtype(), x.value.device());
    group_norm(y.view(), mean.view(), rstd.view(), x.value.view(), gamma.value.view(), beta.value.view(), params,
               graph.stream());

    return graph.record("group_norm", std::move(y), {&x, &gamma, &beta}, [=](Graph& g, const Tensor& dy) {
        Tensor dx = Tensor::empty(x.shape(), dy.dtype(), dy.device());
        group_norm_backward(dx.view(), g.gradient_of_leaf(gamma).view(), g.gradient_of_leaf(beta).view(), dy.view(),
                            x.value.view(), mean.view(), rstd.view(), gamma.value.view(), beta.value.view(), params,
                            g.stream());
        g.accumulate(x, std::move(dx));
    });
}

}  // namespace cover
