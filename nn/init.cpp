#include "nn/init.h"

#include <cmath>

#include "core/rng.h"

namespace cover {

void initialise(ParameterSet& parameters, std::uint64_t seed) {
    std::uint32_t index = 0;
    for (const Parameter& p : parameters.list()) {
        RandomStream random({.seed = seed, .sample = index, .purpose = Purpose::initialisation});
        const double fan_in = static_cast<double>(p.fan_in);
        const bool projection = p.kind == ParameterKind::conv_weight && p.shape[2] == 1;
        const auto draw = [&]() -> double {
            switch (p.kind) {
            case ParameterKind::norm_weight: return 1;
            case ParameterKind::norm_bias: return 0;
            case ParameterKind::conv_bias: break;
            case ParameterKind::conv_weight:
                if (!projection) return std::sqrt(2 / fan_in) * random.normal();
            }
            return random.uniform(-1, 1) / std::sqrt(fan_in);
        };
        // Drawn in double and rounded to float32 for either type, so that a float64 run starts from the same weights.
        Tensor place = parameters.value(static_cast<int>(index));
        Tensor value = Tensor::empty(place.shape(), place.dtype());
        for (std::int64_t i = 0; i < value.count(); ++i) {
            const auto rounded = static_cast<float>(draw());
            if (value.dtype() == DType::float64)
                value.data<double>()[i] = rounded;
            else
                value.data<float>()[i] = rounded;
        }
        place.copy_from(value);
        ++index;
    }
}

}  // namespace cover
