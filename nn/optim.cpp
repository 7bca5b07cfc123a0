#include "nn/optim.h"

#include <algorithm>
#include <cmath>

#include "kernels/reduce.h"

namespace cover {

Optimizer::Optimizer(const ParameterSet& parameters, const OptimizerOptions& options) : options_(options) {
    const Tensor& values = parameters.values();
    first_ = Tensor::zeros(values.shape(), values.dtype(), values.device());
    if (options.adam) second_ = Tensor::zeros(values.shape(), values.dtype(), values.device());
}

double Optimizer::gradient_norm(const ParameterSet& parameters, Stream& stream) const {
    Tensor sum = Tensor::empty({1}, DType::float64, parameters.gradients().device());
    sum_of_squares(sum.view(), parameters.gradients().view(), {.count = parameters.gradients().count()}, stream);
    return std::sqrt(sum.item());
}

void Optimizer::step(ParameterSet& parameters, double gradient_norm, double lr, Stream& stream) {
    ++steps_;
    const double gradient_scale = options_.clip > 0 ? std::min(1.0, options_.clip / (gradient_norm + 1e-6)) : 1.0;
    const std::int64_t count = parameters.values().count();
    if (options_.adam)
        adam(parameters.values().view(), first_.view(), second_.view(), parameters.gradients().const_view(),
             {.count = count,
              .step = steps_,
              .lr = lr,
              .beta1 = options_.beta1,
              .beta2 = options_.beta2,
              .epsilon = options_.epsilon,
              .weight_decay = options_.weight_decay,
              .gradient_scale = gradient_scale},
             stream);
    else
        sgd(parameters.values().view(), first_.view(), parameters.gradients().const_view(),
            {.count = count,
             .step = steps_,
             .lr = lr,
             .momentum = options_.momentum,
             .weight_decay = options_.weight_decay,
             .gradient_scale = gradient_scale},
            stream);
}

}  // namespace cover
