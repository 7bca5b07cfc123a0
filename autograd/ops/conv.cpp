#include "kernels/conv.h"

#include "autograd/ops.h"

namespace cover {

Var conv(Graph& graph, const Var& x, const Var& weight, const Var& bias) {
    const Shape& w = weight.shape();
    require(w.rank() == 5 && w[3] == x.value.side(4), ErrorKind::internal, "[conv] weight ", w.to_string(),
            " does not fit an input ", x.shape().to_string());
    const ConvParams params{.n = x.value.side(0),
                            .grid = graph.grid_of(x.value),
                            .c_in = w[3],
                            .c_out = w[4],
                            .kernel = static_cast<int>(w[2])};
    const Shape y_shape{x.value.side(0), x.value.side(1), x.value.side(2), x.value.side(3), w[4]};
    Tensor y = Tensor::empty(y_shape, x.value.dtype(), x.value.device());
    conv(y.view(), x.value.view(), weight.value.view(), bias.value.view(), params, graph.stream());

    return graph.record("conv", std::move(y), {&x, &weight, &bias}, [=, x = Kept(x)](Graph& g, const Tensor& dy) {
        if (weight.wants_gradient())
            conv_backward_weight(g.gradient_of_leaf(weight).view(), g.gradient_of_leaf(bias).view(), dy.view(),
                                 x.value(g.stream()).const_view(), params, g.stream());
        if (x.wants_gradient()) {
            Tensor dx = Tensor::empty(x.shape(), dy.dtype(), dy.device());
            conv_backward_data(dx.view(), dy.view(), weight.value.view(), params, g.stream());
            g.accumulate(x.place(), std::move(dx));
        }
    });
}

}  // namespace cover
