// The label-free scores of a weights file on patch files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/config.h"
#include "cover/evaluate.h"

namespace cover::app {

// Pairs are drawn as in training, affine only, samples in order and cycled. Degree, patch and network come from the
// weights' metadata unless `options` names them. Throws Error(data) when the images do not fit the weights.
Evaluation evaluate(const std::string& weights, const std::vector<std::string>& data, std::int64_t pairs,
                    std::uint64_t seed, const ConfigSources& options);

}  // namespace cover::app
