// VPA, vector pyramid aggregation: from two feature pyramids to one displacement field at full resolution. Spec
// section 4.
#pragma once

#include <vector>

#include "cover/mov.h"

namespace cover {

// What one level did, on the grid that it hands on: its vectors `w` and the running sum `u` of the spec.
struct PyramidLevel {
    Var own, sum;
};

class VectorPyramid {
public:
    // channels: the nine of the U-Net; heads: five, coarse to fine; levels: 1 to 5, the coarsest ones.
    VectorPyramid(ParameterSet& parameters, const std::vector<std::int64_t>& channels, const std::vector<int>& heads,
                  int head_dim, int radius, int levels, WarpConvention convention);

    // moving, fixed: features coarse to fine, at least `levels` of them -> psi' (N,D,H,W,nd) in pixels of full
    // resolution. `trace`, where given, gets each level, coarse to fine.
    Var operator()(Graph& graph, const ParameterSet& parameters, const std::vector<Var>& moving,
                   const std::vector<Var>& fixed, std::vector<PyramidLevel>* trace = nullptr) const;

private:
    std::vector<MixtureOfVectors> mov_;
    int levels_;
    WarpConvention convention_;
};

}  // namespace cover
