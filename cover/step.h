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

// forward_backward and one optimizer step at rate `lr`. When the result is not finite() no weight and no moment
// changes.
StepResult train_step(Model& model, Optimizer& optimizer, const Views& views, LossTerms terms, double lr,
                      Stream& stream);

// Values only.
StepResult evaluate_step(const Model& model, const Views& views, Stream& stream);

}  // namespace cover
