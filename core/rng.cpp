#include "core/rng.h"

#include <cmath>
#include <numbers>

namespace cover {

PhiloxBlock philox4x32(PhiloxBlock c, std::array<std::uint32_t, 2> k) {
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
        const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
        c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
             static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return c;
}

PhiloxBlock RandomStream::block(std::uint32_t index) const {
    const auto purpose = static_cast<std::uint32_t>(key_.purpose);
    return philox4x32({index, (purpose << 16) | key_.attempt, key_.sample, key_.epoch},
                      {static_cast<std::uint32_t>(key_.seed), static_cast<std::uint32_t>(key_.seed >> 32)});
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
    return static_cast<float>(block(static_cast<std::uint32_t>(index / 4))[index % 4] >> 8) * 0x1p-24f;
}

std::array<double, 4> normals(const PhiloxBlock& block) {
    std::array<double, 4> out{};
    for (std::size_t pair = 0; pair < 2; ++pair) {
        const double u = (static_cast<double>(block[2 * pair]) + 1.0) * 0x1p-32;  // (0, 1]
        const double v = static_cast<double>(block[2 * pair + 1]) * 0x1p-32;
        const double radius = std::sqrt(-2.0 * std::log(u));
        out[2 * pair] = radius * std::cos(2.0 * std::numbers::pi * v);
        out[2 * pair + 1] = radius * std::sin(2.0 * std::numbers::pi * v);
    }
    return out;
}

}  // namespace cover
