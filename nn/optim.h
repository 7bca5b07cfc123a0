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

    // A step in three parts, none of which waits for a device. schedule() says which step comes and at which rate;
    // enqueue() takes the gradients' norm and changes weights and moments, unless that norm or the loss (1 element) is
    // not finite; count_step() is told that it was. enqueue() alone may be recorded and played again.
    void schedule(double lr);
    void enqueue(ParameterSet& parameters, const Tensor& loss, Stream& stream);
    void count_step() { ++steps_; }
    // The squared 2-norm of the gradients of the last enqueue(), before clipping: 1 element, float64.
    const Tensor& sum_of_squares() const { return sum_of_squares_; }

    // Steps taken so far. With the moments this is the whole state.
    std::int64_t steps() const { return steps_; }
    void set_steps(std::int64_t steps) { steps_ = steps; }
    Tensor& first_moment() { return first_; }
    Tensor& second_moment() { return second_; }  // undefined for SGD

private:
    OptimizerOptions options_;
    std::int64_t steps_ = 0;
    Tensor first_, second_;
    Tensor schedule_, factors_, sum_of_squares_;
};

}  // namespace cover
