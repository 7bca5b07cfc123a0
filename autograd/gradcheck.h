// Checks the gradient of any composition of ops against central differences, in float64 with a random cotangent r:
// d/dx sum(out * r), because sum(out) alone is constant for a softmax and blind to much else.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/graph.h"

namespace cover {

using GradcheckFunction = std::function<Var(Graph&, const std::vector<Var>&)>;

struct GradcheckOptions {
    int spatial_dims = 2;
    double step = 1e-6;          // of the central difference, absolute
    double tolerance = 1e-6;     // relative to max(1, largest derivative of that input)
    std::int64_t elements = 64;  // per input: all of them when it has fewer, else evenly spaced ones
};

// Empty when every derivative agrees; otherwise a sentence with input, element, both values. Inputs are float64; values
// must lie away from kinks by more than `step`. An input whose gradient is zero everywhere is reported as well.
std::string gradcheck(const GradcheckFunction& function, const std::vector<Tensor>& inputs, Stream& stream,
                      const GradcheckOptions& options = {});

}  // namespace cover
