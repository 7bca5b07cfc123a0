#include "cover/losses.h"

namespace cover {

Losses losses(Graph& graph, const Model::Prediction& prediction, const Tensor& field, const Tensor& mask,
              WarpConvention convention, LossTerms terms) {
    const auto detached = [&](const Var& v, bool wanted) { return wanted ? v : graph.detached(v); };
    const bool want_vec = terms != LossTerms::con, want_con = terms != LossTerms::vec;
    Losses out;
    // L_vec = sum eps |psi - psi'|_1 / sum eps
    out.vec = masked_l1(graph, detached(prediction.field, want_vec), field, mask);
    // L_con = 1 - sum eps cos(warp(f1_a, psi), f1_b) / sum eps: the unwarped features, warped by the true field
    const Var warped = warp(graph, detached(prediction.moving.back(), want_con), graph.constant(field), convention);
    out.con = masked_cosine(graph, warped, detached(prediction.fixed.back(), want_con), mask);
    out.total = terms == LossTerms::both ? add(graph, out.vec, out.con) : want_vec ? out.vec : out.con;
    return out;
}

}  // namespace cover
