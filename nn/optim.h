// Optimizers over the flat buffers of a ParameterSet. Spec section 7: clip first, then L2 decay, then the rule.
#pragma once

#include "kernels/optim.h"
#include "kernels/variant.h"
#include "nn/module.h"

namespace cover {

struct OptimizerOptions {
    bool adam = true;  // else SGD
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double momentum = 0.9;
    double weight_decay = 1e-4;
    double clip = 1.0;  // largest global gradient norm; 0 or less: no clipping
};

class Optimizer {
public:
    Optimizer(const ParameterSet& parameters, const OptimizerOptions& options);

    // Global 2-norm of the gradients, before clipping.
    double gradient_norm(const ParameterSet& parameters, Stream& stream) const;
    // One step with the rate `lr`, given that norm.
    void step(ParameterSet& parameters, double gradient_norm, double lr, Stream& stream);

    // Steps taken so far. With the moments this is the whole state.
    std::int64_t steps() const { return steps_; }
    void set_steps(std::int64_t steps) { steps_ = steps; }
    Tensor& first_moment() { return first_; }
    Tensor& second_moment() { return second_; }  // undefined for SGD

private:
    OptimizerOptions options_;
    std::int64_t steps_ = 0;
    Tensor first_, second_;
};

}  // namespace cover
