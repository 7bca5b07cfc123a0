// VPA, vector pyramid aggregation: from two feature pyramids to one displacement field at full resolution. Spec
// section 4.
#pragma once

#include <vector>

#include "cover/mov.h"

namespace cover {

class VectorPyramid {
public:
    // channels: the nine of the U-Net; heads: five, coarse to fine; levels: 1 to 5, the coarsest ones.
    VectorPyramid(ParameterSet& parameters, const std::vector<std::int64_t>& channels, const std::vector<int>& heads,
                  int head_dim, int radius, int levels, WarpConvention convention);

    // moving, fixed: features coarse to fine, at least `levels` of them -> psi' (N,D,H,W,nd) in pixels of full
    // resolution.
    Var operator()(Graph& graph, const ParameterSet& parameters, const std::vector<Var>& moving,
                   const std::vector<Var>& fixed) const;

private:
    std::vector<MixtureOfVectors> mov_;
    int levels_;
    WarpConvention convention_;
};

}  // namespace cover
