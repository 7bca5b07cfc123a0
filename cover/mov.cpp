#include "cover/mov.h"

namespace cover {

MixtureOfVectors::MixtureOfVectors(ParameterSet& parameters, const std::string& prefix, std::int64_t feature_channels,
                                   int heads, int head_dim, int radius)
    : projection_(parameters, prefix, feature_channels, std::int64_t{heads} * head_dim),
      heads_(heads),
      head_dim_(head_dim),
      radius_(radius) {}

Var MixtureOfVectors::operator()(Graph& graph, const ParameterSet& parameters, const Var& moving,
                                 const Var& fixed) const {
    const Var k = projection_(graph, parameters, moving);
    const Var q = projection_(graph, parameters, fixed);
    return local_attention(graph, q, k, heads_, head_dim_, radius_);
}

}  // namespace cover
