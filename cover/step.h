// One training step: two views in, weights changed. Spec section 7.
#pragma once

#include <cmath>

#include "cover/losses.h"
#include "cover/model.h"
#include "cover/views.h"
#include "nn/optim.h"

namespace cover {

struct StepResult {
    double loss = 0, loss_vec = 0, loss_con = 0;
    double loss_vec_zero = 0;  // what a field of zeros scores on the same batch and mask
    double grad_norm = 0;      // before clipping

    // A sum over everything that was computed: not finite as soon as one value that matters is not.
    bool finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }
};

// Gradients are left in the model's flat buffer.
StepResult forward_backward(Model& model, const Views& views, LossTerms terms, Stream& stream,
                            Graph::Observer observer = {});

// One element each, on the model's device, where they may still be on their way.
struct StepTensors {
    Tensor loss, loss_vec, loss_con, loss_vec_zero;
    Tensor sum_of_squares;  // of the gradients; undefined where there are none

    StepResult read() const;
};

// All work of a step on views that are not empty, of which nothing waits for the device or looks at a value: after
// optimizer.schedule(lr), and before optimizer.count_step() where the result turns out finite.
StepTensors enqueue_step(Model& model, Optimizer& optimizer, const Views& views, LossTerms terms, Stream& stream);

// forward_backward and one optimizer step at rate `lr`. When the result is not finite() no weight and no moment
// changes.
StepResult train_step(Model& model, Optimizer& optimizer, const Views& views, LossTerms terms, double lr,
                      Stream& stream);

// Values only.
StepResult evaluate_step(const Model& model, const Views& views, Stream& stream);

}  // namespace cover
