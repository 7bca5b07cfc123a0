#include "cover/step.h"

#include <utility>

#include "kernels/loss.h"

namespace cover {
namespace {

// L_vec of the zero field: the masked mean of |psi|_1.
double zero_field_loss(const Views& views, DType dtype, Stream& stream) {
    const Tensor zeros = Tensor::zeros(views.field.shape(), dtype, views.field.device());
    Tensor loss = Tensor::empty({1}, dtype, views.field.device());
    const Shape& s = views.field.shape();
    masked_l1(loss.view(), zeros.view(), views.field.const_view(), views.mask.const_view(),
              {.n = s[0], .pixels = s[1] * s[2] * s[3], .channels = s[4]}, stream);
    return loss.item();
}

std::pair<StepResult, Var> run(const Model& model, const Views& views, LossTerms terms, Graph& graph) {
    const Model::Prediction prediction = model.predict(graph, graph.constant(views.images));
    const Losses parts = losses(graph, prediction, views.field, views.mask, model.config().warp, terms);
    const StepResult result{.loss = parts.total.value.item(),
                            .loss_vec = parts.vec.value.item(),
                            .loss_con = parts.con.value.item(),
                            .loss_vec_zero = zero_field_loss(views, views.field.dtype(), graph.stream())};
    return {result, parts.total};
}

}  // namespace

StepResult forward_backward(Model& model, const Views& views, LossTerms terms, Stream& stream,
                            Graph::Observer observer) {
    model.parameters().zero_gradients();
    Graph graph(stream, model.config().spatial_dims);
    graph.observe(std::move(observer));
    const auto [result, total] = run(model, views, terms, graph);
    graph.backward(total);
    return result;
}

StepResult train_step(Model& model, Optimizer& optimizer, const Views& views, LossTerms terms, double lr,
                      Stream& stream) {
    StepResult result = forward_backward(model, views, terms, stream);
    result.grad_norm = optimizer.gradient_norm(model.parameters(), stream);
    if (result.finite()) optimizer.step(model.parameters(), result.grad_norm, lr, stream);
    return result;
}

StepResult evaluate_step(const Model& model, const Views& views, Stream& stream) {
    Graph graph(stream, model.config().spatial_dims, Graph::Retention::nothing);
    return run(model, views, LossTerms::both, graph).first;
}

}  // namespace cover
