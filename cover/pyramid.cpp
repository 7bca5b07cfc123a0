#include "cover/pyramid.h"

namespace cover {

VectorPyramid::VectorPyramid(ParameterSet& parameters, const std::vector<std::int64_t>& channels,
                             const std::vector<int>& heads, int head_dim, int radius, int levels,
                             WarpConvention convention)
    : levels_(levels), convention_(convention) {
    require(heads.size() == 5, ErrorKind::configuration, "[network] five head counts are needed, got ", heads.size());
    require(levels >= 1 && levels <= 5, ErrorKind::configuration, "[network] the pyramid has 1 to 5 levels, not ",
            levels);
    // All five projections exist whatever `levels` is: the weights file keeps its names.
    for (std::size_t level = 0; level < 5; ++level)
        mov_.emplace_back(parameters, text("proj.", level), channels[4 + level], heads[level], head_dim, radius);
}

Var VectorPyramid::operator()(Graph& graph, const ParameterSet& parameters, const std::vector<Var>& moving,
                              const std::vector<Var>& fixed, std::vector<PyramidLevel>* trace) const {
    // Level 1: w = up(2 MoV(f5_M, f5_F)); u = w.
    Var u = upsample(graph, mov_[0](graph, parameters, moving[0], fixed[0]), true, 2.0);
    if (trace) trace->push_back({u, u});

    for (std::size_t level = 1; static_cast<int>(level) < levels_; ++level) {
        const Var warped = warp(graph, moving[level], u, convention_);
        Var w = mov_[level](graph, parameters, warped, fixed[level]);
        if (level < 4) {
            // Levels 2 to 4: w = up(2 MoV(warp(f_M, u), f_F)); u = warp(up(2 u), w) + w.
            w = upsample(graph, w, true, 2.0);
            u = upsample(graph, u, true, 2.0);
        }
        // Level 5 is at full resolution already: psi' = warp(u, w) + w.
        u = add(graph, warp(graph, u, w, convention_), w);
        if (trace) trace->push_back({w, u});
    }
    // Fewer levels: up-sampled and doubled to full resolution.
    for (int level = levels_; level < 4; ++level) u = upsample(graph, u, true, 2.0);
    return u;
}

}  // namespace cover
