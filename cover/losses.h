// The objective: L = L_vec + L_con. Spec section 1.
#pragma once

#include "cover/config.h"
#include "cover/model.h"

namespace cover {

struct Losses {
    Var total, vec, con;
};

// field: psi (B,D,H,W,nd); mask: eps (B,D,H,W,1). Terms that are not asked for are computed without a gradient.
Losses losses(Graph& graph, const Model::Prediction& prediction, const Tensor& field, const Tensor& mask,
              WarpConvention convention, LossTerms terms);

}  // namespace cover
