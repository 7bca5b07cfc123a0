// The arithmetic of optimizer_factors(), shared by the host and the devices.
#pragma once

#include <cmath>

#include "core/host_device.h"
#include "kernels/optim.h"

namespace cover {

// schedule (2), factors (4); see optim.h.
COVER_HOST_DEVICE inline void make_optimizer_factors(double* factors, const double* schedule, double loss,
                                                     double sum_of_squares, const OptimizerFactorsParams& p) {
    const double lr = schedule[0], step = schedule[1], norm = std::sqrt(sum_of_squares);
    const double scale = p.clip / (norm + 1e-6);
    factors[apply_factor] = std::isfinite(loss) && std::isfinite(norm) ? 1 : 0;
    factors[gradient_scale_factor] = p.clip > 0 && scale < 1 ? scale : 1;
    factors[rate_factor] = p.adam ? lr / (1 - std::pow(p.beta1, step)) : lr;
    factors[correction_factor] = p.adam ? 1 / (1 - std::pow(p.beta2, step)) : (step == 1 ? 1 : 0);
}

}  // namespace cover
