#include "cover/step.h"

#include <utility>

#include "kernels/loss.h"

namespace cover {
namespace {

// L_vec of the zero field: the masked mean of |psi|_1.
Tensor zero_field_loss(const Views& views, DType dtype, Stream& stream) {
    const Tensor zeros = Tensor::zeros(views.field.shape(), dtype, views.field.device());
    Tensor loss = Tensor::empty({1}, dtype, views.field.device());
    const Shape& s = views.field.shape();
    masked_l1(loss.view(), zeros.view(), views.field.const_view(), views.mask.const_view(),
              {.n = s[0], .pixels = s[1] * s[2] * s[3], .channels = s[4]}, stream);
    return loss;
}

std::pair<StepTensors, Var> run(const Model& model, const Views& views, LossTerms terms, Graph& graph) {
    const Model::Prediction prediction = model.predict(graph, graph.constant(views.images));
    const Losses parts = losses(graph, prediction, views.field, views.mask, model.config().warp, terms);
    return {{.loss = parts.total.value,
             .loss_vec = parts.vec.value,
             .loss_con = parts.con.value,
             .loss_vec_zero = zero_field_loss(views, views.field.dtype(), graph.stream()),
             .sum_of_squares = {}},
            parts.total};
}

// The gradients are left in the model's flat buffer.
StepTensors enqueue_gradients(Model& model, const Views& views, LossTerms terms, Stream& stream,
                              Graph::Observer observer) {
    model.parameters().zero_gradients();
    Graph graph(stream, model.config().spatial_dims);
    graph.observe(std::move(observer));
    const auto [result, total] = run(model, views, terms, graph);
    graph.backward(total);
    return result;
}

}  // namespace

StepResult StepTensors::read() const {
    return {.loss = loss.item(),
            .loss_vec = loss_vec.item(),
            .loss_con = loss_con.item(),
            .loss_vec_zero = loss_vec_zero.item(),
            .grad_norm = sum_of_squares.defined() ? std::sqrt(sum_of_squares.item()) : 0};
}

StepResult forward_backward(Model& model, const Views& views, LossTerms terms, Stream& stream,
                            Graph::Observer observer) {
    return enqueue_gradients(model, views, terms, stream, std::move(observer)).read();
}

StepTensors enqueue_step(Model& model, Optimizer& optimizer, const Views& views, LossTerms terms, Stream& stream) {
    StepTensors result = enqueue_gradients(model, views, terms, stream, {});
    optimizer.enqueue(model.parameters(), result.loss, stream);
    result.sum_of_squares = optimizer.sum_of_squares();
    return result;
}

StepResult train_step(Model& model, Optimizer& optimizer, const Views& views, LossTerms terms, double lr,
                      Stream& stream) {
    optimizer.schedule(lr);
    const StepResult result = enqueue_step(model, optimizer, views, terms, stream).read();
    if (result.finite()) optimizer.count_step();
    return result;
}

StepResult evaluate_step(const Model& model, const Views& views, Stream& stream) {
    Graph graph(stream, model.config().spatial_dims, Graph::Retention::nothing);
    return run(model, views, LossTerms::both, graph).first.read();
}

}  // namespace cover
