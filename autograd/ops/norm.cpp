#include "kernels/norm.h"

#include "autograd/ops.h"

namespace cover {
namespace {

// Those that the convolution has left, or else of a pass over x.
NormStatistics statistics_of(Graph& graph, const Var& x, const GroupNormParams& params) {
    if (const auto& ready = x.statistics;
        ready && ready->epsilon == params.epsilon && ready->mean.side(1) == params.groups)
        return *ready;
    const DType real = real_type(x.dtype());
    NormStatistics made{Tensor::empty({params.n, params.groups}, real, x.device()),
                        Tensor::empty({params.n, params.groups}, real, x.device()), params.epsilon};
    group_norm_statistics(made.mean.view(), made.rstd.view(), x.value.view(), params, graph.stream());
    return made;
}

}  // namespace

Var group_norm(Graph& graph, const Var& x, const Var& gamma, const Var& beta, std::int64_t groups, double epsilon,
               double slope) {
    const Shape s = x.shape();
    const GroupNormParams params{.n = s[0],
                                 .pixels = graph.grid_of(s).pixels(),
                                 .channels = s[4],
                                 .groups = groups,
                                 .epsilon = epsilon,
                                 .slope = slope};
    const DType dtype = x.dtype(), real = real_type(dtype);
    const auto backward = [=](const Kept& kept, const NormStatistics& statistics) -> Graph::Backward {
        return [=](Graph& g, const Tensor& dy) {
            Tensor dx = Tensor::empty(s, dy.dtype(), dy.device());
            group_norm_backward(dx.view(), g.gradient_of_leaf(gamma).view(), g.gradient_of_leaf(beta).view(), dy.view(),
                                kept.value(g.stream()).const_view(), statistics.mean.view(), statistics.rstd.view(),
                                gamma.value.view(), beta.value.view(), params, g.stream());
            g.accumulate(kept.place(), std::move(dx));
        };
    };
    if (graph.fuses(dtype) && !x.pending && !x.recipe) {
        const NormStatistics statistics = statistics_of(graph, x, params);
        PendingPart part{x.value,     statistics.mean, statistics.rstd,
                         gamma.value, beta.value,      {.channels = s[4], .groups = groups, .slope = slope}};
        return graph.record_pending("group_norm", s, {std::move(part)}, {&x, &gamma, &beta},
                                    backward(Kept(x), statistics));
    }

    const Tensor input = graph.value(x);
    Tensor y = Tensor::empty(s, dtype, input.device());
    const NormStatistics statistics{Tensor::empty({s[0], groups}, real, input.device()),
                                    Tensor::empty({s[0], groups}, real, input.device()), epsilon};
    Tensor mean = statistics.mean, rstd = statistics.rstd;
    group_norm(y.view(), mean.view(), rstd.view(), input.view(), gamma.value.view(), beta.value.view(), params,
               graph.stream());
    const Var result = graph.record("group_norm", std::move(y), {&x, &gamma, &beta}, backward(Kept(x), statistics));
    return graph.with_recipe(result, [params, x = Kept(x), gamma = gamma.value, beta = beta.value](Stream& stream) {
        const Tensor source = x.value(stream);
        Tensor again = Tensor::empty(source.shape(), source.dtype(), source.device());
        Tensor m = Tensor::empty({params.n, params.groups}, gamma.dtype(), source.device());
        Tensor r = Tensor::empty({params.n, params.groups}, gamma.dtype(), source.device());
        group_norm(again.view(), m.view(), r.view(), source.view(), gamma.view(), beta.view(), params, stream);
        return again;
    });
}

}  // namespace cover
