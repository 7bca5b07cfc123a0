#include "data/quantise.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/check.h"

namespace cover {

namespace {

// Linear interpolation between the two nearest ranks.
double percentile(std::vector<float>& sorted, double share) {
    const double rank = share * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(rank);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    const double low = sorted[below], high = sorted[above];
    return low + (high - low) * (rank - static_cast<double>(below));
}

}  // namespace

std::uint16_t half_bits(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00u);
    const double size = std::abs(static_cast<double>(value));
    if (size >= 65520) return static_cast<std::uint16_t>(sign | 0x7c00u);
    // The spacing of halves at this size; below 2^-14 they are subnormal, 2^-24 apart.
    if (size == 0) return sign;
    int exponent = 0;
    std::frexp(size, &exponent);
    const int step = std::max(exponent - 11, -24);
    const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, -step)));
    // A carry runs from the mantissa into the exponent by itself.
    const std::uint32_t magnitude = step == -24 ? units : (static_cast<std::uint32_t>(step + 24) << 10) + units;
    return static_cast<std::uint16_t>(sign | magnitude);
}

std::vector<unsigned char> quantise(const std::vector<float>& values, H5Store store) {
    std::vector<unsigned char> out(values.size() * static_cast<std::size_t>(size_of(store)));
    const auto put = [&](std::size_t i, auto value) {
        std::memcpy(out.data() + i * sizeof value, &value, sizeof value);
    };
    for (std::size_t i = 0; i < values.size(); ++i) switch (store) {
        case H5Store::uint8: put(i, static_cast<std::uint8_t>(std::lround(values[i] * 255.0))); break;
        case H5Store::uint16: put(i, static_cast<std::uint16_t>(std::lround(values[i] * 65535.0))); break;
        case H5Store::float16: put(i, half_bits(values[i])); break;
        case H5Store::float32: put(i, values[i]); break;
        default: fail(ErrorKind::internal, "[prepare] images are not stored in this type");
        }
    return out;
}

Normalised normalise(std::vector<float>& values, Normalisation method, const std::array<double, 2>& range,
                     const std::array<double, 2>& window) {
    Normalised result;
    std::vector<float> finite;
    finite.reserve(values.size());
    for (const float v : values)
        if (std::isfinite(v)) finite.push_back(v);
    result.non_finite = static_cast<std::int64_t>(values.size() - finite.size());
    if (finite.empty()) {
        result.refusal = "holds no finite value";
        return result;
    }
    const auto [least, most] = std::minmax_element(finite.begin(), finite.end());
    const double minimum = *least, maximum = *most;
    if (!(maximum > minimum)) {
        result.refusal = "all its values are the same";
        return result;
    }
    double low = minimum, high = maximum;
    switch (method) {
    case Normalisation::range:
        low = range[0];
        high = range[1];
        break;
    case Normalisation::percentile:
        std::sort(finite.begin(), finite.end());
        low = percentile(finite, 0.005);
        high = percentile(finite, 0.995);
        break;
    case Normalisation::zscore: {
        double sum = 0, squares = 0;
        for (const float v : finite) sum += v;
        const double mean = sum / static_cast<double>(finite.size());
        for (const float v : finite) squares += (v - mean) * (v - mean);
        const double deviation = std::sqrt(squares / static_cast<double>(finite.size()));
        low = mean - 3 * deviation;
        high = mean + 3 * deviation;
        break;
    }
    case Normalisation::ct:
        low = window[0];
        high = window[1];
        break;
    case Normalisation::minmax:
    case Normalisation::automatic: break;
    }
    if (!(high > low)) {
        result.refusal = "hardly any of its values differ; use --normalize minmax";
        return result;
    }
    bool varies = false;
    float first = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double v = std::isfinite(values[i]) ? values[i] : minimum;
        values[i] = static_cast<float>(std::clamp((v - low) / (high - low), 0.0, 1.0));
        if (i == 0) first = values[0];
        varies = varies || values[i] != first;
    }
    if (!varies) result.refusal = "all its values lie on one side of the window";
    return result;
}

}  // namespace cover
