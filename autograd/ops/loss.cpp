#include "kernels/loss.h"

#include "autograd/ops.h"

namespace cover {
namespace {

LossParams loss_params(const Graph& graph, const Shape& x) {
    return {.n = x[0], .pixels = graph.grid_of(x).pixels(), .channels = x[4]};
}

}  // namespace

Var masked_l1(Graph& graph, const Var& prediction, const Tensor& target, const Tensor& mask) {
    const LossParams params = loss_params(graph, prediction.shape());
    Tensor loss = Tensor::empty({1}, prediction.dtype(), prediction.device());
    masked_l1(loss.view(), graph.value(prediction).const_view(), target.view(), mask.view(), params, graph.stream());

    return graph.record(
        "masked_l1", std::move(loss), {&prediction}, [=, prediction = Kept(prediction)](Graph& g, const Tensor& dloss) {
            Tensor dprediction = Tensor::empty(prediction.shape(), dloss.dtype(), dloss.device());
            masked_l1_backward(dprediction.view(), dloss.view(), prediction.value(g.stream()).const_view(),
                               target.view(), mask.view(), params, g.stream());
            g.accumulate(prediction.place(), std::move(dprediction));
        });
}

Var masked_cosine(Graph& graph, const Var& a, const Var& b, const Tensor& mask) {
    const LossParams params = loss_params(graph, a.shape());
    const DType dtype = a.dtype();
    Tensor loss = Tensor::empty({1}, real_type(dtype), a.device());
    masked_cosine(loss.view(), graph.value(a).const_view(), graph.value(b).const_view(), mask.view(), params,
                  graph.stream());

    return graph.record("masked_cosine", std::move(loss), {&a, &b},
                        [=, a = Kept(a), b = Kept(b)](Graph& g, const Tensor& dloss) {
                            Tensor da = Tensor::empty(a.shape(), dtype, dloss.device());
                            Tensor db = Tensor::empty(b.shape(), dtype, dloss.device());
                            masked_cosine_backward(da.view(), db.view(), dloss.view(), a.value(g.stream()).const_view(),
                                                   b.value(g.stream()).const_view(), mask.view(), params, g.stream());
                            g.accumulate(a.place(), std::move(da));
                            g.accumulate(b.place(), std::move(db));
                        });
}

}  // namespace cover
