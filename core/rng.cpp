#include "core/rng.h"

#include <cmath>
#include <numbers>

namespace cover {

PhiloxStream RandomStream::blocks() const {
    const auto purpose = static_cast<std::uint32_t>(key_.purpose);
    return {{(purpose << 16) | key_.attempt, key_.sample, key_.epoch},
            {static_cast<std::uint32_t>(key_.seed), static_cast<std::uint32_t>(key_.seed >> 32)}};
}

std::uint32_t RandomStream::next() {
    const std::uint64_t lane = position_ % 4;
    if (lane == 0) words_ = block(static_cast<std::uint32_t>(position_ / 4));
    ++position_;
    return words_[lane];
}

double RandomStream::uniform() {
    const std::uint64_t high = next();
    const std::uint64_t low = next();
    return static_cast<double>(((high << 32) | low) >> 11) * 0x1p-53;
}

std::int64_t RandomStream::below(std::int64_t bound) {
    const std::uint64_t high = next();
    const std::uint64_t low = next();
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::int64_t>((static_cast<Wide>((high << 32) | low) * static_cast<std::uint64_t>(bound)) >> 64);
}

double RandomStream::normal() {
    // 1 - uniform lies in (0, 1]: the logarithm is finite.
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

float RandomStream::uniform_at(std::uint64_t index) const {
    return uniform_of(block(static_cast<std::uint32_t>(index / 4))[index % 4]);
}

}  // namespace cover
