#include "nn/optim.h"

#include "kernels/reduce.h"

namespace cover {

Optimizer::Optimizer(const ParameterSet& parameters, const OptimizerOptions& options) : options_(options) {
    const Tensor& values = parameters.values();
    first_ = Tensor::zeros(values.shape(), values.dtype(), values.device());
    if (options.adam) second_ = Tensor::zeros(values.shape(), values.dtype(), values.device());
    schedule_ = Tensor::zeros({2}, DType::float64, values.device());
    factors_ = Tensor::zeros({optimizer_factor_count}, DType::float64, values.device());
    sum_of_squares_ = Tensor::zeros({1}, DType::float64, values.device());
}

void Optimizer::schedule(double lr) {
    Tensor next = Tensor::empty({2}, DType::float64);
    next.data<double>()[0] = lr;
    next.data<double>()[1] = static_cast<double>(steps_ + 1);
    schedule_.copy_from(next);
}

void Optimizer::enqueue(ParameterSet& parameters, const Tensor& loss, Stream& stream) {
    const std::int64_t count = parameters.values().count();
    const ConstView gradients = parameters.gradients().const_view();
    cover::sum_of_squares(sum_of_squares_.view(), gradients, {.count = count}, stream);
    optimizer_factors(factors_.view(), schedule_.const_view(), loss.const_view(), sum_of_squares_.const_view(),
                      {.adam = options_.adam, .beta1 = options_.beta1, .beta2 = options_.beta2, .clip = options_.clip},
                      stream);
    if (options_.adam)
        adam(parameters.values().view(), first_.view(), second_.view(), gradients, factors_.const_view(),
             {.count = count,
              .beta1 = options_.beta1,
              .beta2 = options_.beta2,
              .epsilon = options_.epsilon,
              .weight_decay = options_.weight_decay},
             stream);
    else
        sgd(parameters.values().view(), first_.view(), gradients, factors_.const_view(),
            {.count = count, .momentum = options_.momentum, .weight_decay = options_.weight_decay}, stream);
}

}  // namespace cover
