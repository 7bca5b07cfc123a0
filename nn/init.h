// Initial weights, spec section 2. Each tensor has its own random stream, keyed by the seed and its place in the list.
#pragma once

#include "nn/module.h"

namespace cover {

// Convolution weights 3^nd: normal with standard deviation sqrt(2 / fan_in) (Kaiming, fan-in, gain sqrt(2)).
// Projection weights (1^nd) and all convolution biases: uniform in +-1 / sqrt(fan_in). Norm weights 1, biases 0.
void initialise(ParameterSet& parameters, std::uint64_t seed);

}  // namespace cover
