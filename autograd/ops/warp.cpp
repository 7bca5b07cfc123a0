#include "kernels/warp.h"

#include "autograd/ops.h"

namespace cover {

Var warp(Graph& graph, const Var& source, const Var& field, WarpConvention convention) {
    const WarpParams params{.n = source.value.side(0),
                            .grid = graph.grid_of(source.value),
                            .channels = source.value.side(4),
                            .convention = convention};
    Tensor y = Tensor::empty(source.shape(), source.value.dtype(), source.value.device());
    warp(y.view(), source.value.view(), field.value.view(), params, graph.stream());

    return graph.record("warp", std::move(y), {&source, &field},
                        [=, source = Kept(source), field = Kept(field)](Graph& g, const Tensor& dy) {
                            Tensor dsource, dfield;
                            if (source.wants_gradient())
                                dsource = Tensor::empty(source.shape(), dy.dtype(), dy.device());
                            if (field.wants_gradient())
                                dfield = Tensor::empty(field.shape(), real_type(dy.dtype()), dy.device());
                            warp_backward(dsource.view(), dfield.view(), dy.view(),
                                          source.value(g.stream()).const_view(), field.value(g.stream()).const_view(),
                                          params, g.stream());
                            if (source.wants_gradient()) g.accumulate(source.place(), std::move(dsource));
                            if (field.wants_gradient()) g.accumulate(field.place(), std::move(dfield));
                        });
}

}  // namespace cover
