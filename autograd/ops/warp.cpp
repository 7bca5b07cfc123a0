#include "kernels/warp.h"

#include "autograd/ops.h"

namespace cover {

Var warp(Graph& graph, const Var& source, const Var& field, WarpConvention convention) {
    const Shape& s = source.shape();
    const WarpParams params{.n = s[0], .grid = graph.grid_of(s), .channels = s[4], .convention = convention};
    Tensor y = Tensor::empty(s, source.dtype(), source.device());
    warp(y.view(), graph.value(source).const_view(), graph.value(field).const_view(), params, graph.stream());

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
