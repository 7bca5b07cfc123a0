// Values between 0 and 1 as they are stored in a patch file.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/h5_write.h"
#include "data/prepare.h"

namespace cover {

// IEEE half precision, nearest even.
std::uint16_t half_bits(float value);

// Integers round to nearest: round(v * maximum).
std::vector<unsigned char> quantise(const std::vector<float>& values, H5Store store);

struct Normalised {
    std::int64_t non_finite = 0;  // values that became the minimum
    std::string refusal;          // why the image is bad; empty when it is good
};

// Maps values to [0, 1] in place. range: what the stored type can express.
Normalised normalise(std::vector<float>& values, Normalisation method, const std::array<double, 2>& range,
                     const std::array<double, 2>& window);

}  // namespace cover
