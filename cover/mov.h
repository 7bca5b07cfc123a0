// MoV, one level of the pyramid. Spec section 3.
#pragma once

#include "nn/layers.h"

namespace cover {

class MixtureOfVectors {
public:
    MixtureOfVectors(ParameterSet& parameters, const std::string& prefix, std::int64_t feature_channels, int heads,
                     int head_dim, int radius);

    // moving, fixed (N,D,H,W,C), both U-Net features -> displacement (N,D,H,W,nd), each component within +-radius.
    Var operator()(Graph& graph, const ParameterSet& parameters, const Var& moving, const Var& fixed) const;

private:
    Projection projection_;  // one for both views
    int heads_, head_dim_, radius_;
};

}  // namespace cover
