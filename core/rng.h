// Counter-based random numbers: Philox 4x32 with ten rounds (Salmon et al., SC 2011). A number is a pure function of
// its key and index, never of a thread or of what was drawn before elsewhere.
#pragma once

#include <cstdint>

#include "core/philox.h"

namespace cover {

// What a stream of numbers is for. The values are part of the file format of a run: never renumber.
enum class Purpose : std::uint16_t {
    initialisation = 1,
    order = 2,
    affine = 3,
    elastic = 4,
    crop = 5,
    noise = 6,
    noise_strength = 7,
    blur = 8,
    contrast = 9,
    brightness = 10,
    inpaint = 11,
    inpaint_fill = 12,
    split = 13,
    test = 14,
};

struct RandomKey {
    std::uint64_t seed = 0;
    std::uint32_t epoch = 0;
    std::uint32_t sample = 0;
    Purpose purpose = Purpose::test;
    std::uint16_t attempt = 0;
};

class RandomStream {
public:
    explicit RandomStream(const RandomKey& key) : key_(key) {}

    // 32 random bits; each call advances by one.
    std::uint32_t next();
    // [0, 1) in steps of 2^-53; takes two draws.
    double uniform();
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    // Uniform integer in [0, bound), bound >= 1, without bias worth the name (64-bit multiply); takes two draws.
    std::int64_t below(std::int64_t bound);
    // Standard normal by Box-Muller, one value from four draws.
    double normal();

    // Random access, independent of the position above.
    PhiloxStream blocks() const;
    // Four words of block `index`.
    PhiloxBlock block(std::uint32_t index) const { return blocks().block(index); }
    // [0, 1) as a float in steps of 2^-24, element `index` of the stream.
    float uniform_at(std::uint64_t index) const;

private:
    RandomKey key_;
    PhiloxBlock words_{};
    std::uint64_t position_ = 0;
};

}  // namespace cover
