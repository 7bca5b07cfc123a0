#include "kernels/cpu/loss.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

double mask_sum(const float* mask, std::int64_t pixels) {
    return sum_in_double(mask, pixels, [](auto v) { return v; });
}

MaskedSums l1(const float* prediction, const float* target, const float* mask, std::int64_t pixels,
              std::int64_t channels) {
    double sums[4] = {};
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        double norm = 0;
        for (std::int64_t i = pixel * channels; i < (pixel + 1) * channels; ++i)
            norm += double{__builtin_fabsf(target[i] - prediction[i])};
        sums[pixel & 3] += double{mask[pixel]} * norm;
    }
    return {(sums[0] + sums[1]) + (sums[2] + sums[3]), mask_sum(mask, pixels)};
}

void l1_backward(float* dprediction, const float* prediction, const float* target, const float* mask, float weight,
                 std::int64_t pixels, std::int64_t channels) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        const float size = weight * mask[pixel];
        for (std::int64_t i = pixel * channels; i < (pixel + 1) * channels; ++i)
            dprediction[i] = size * (prediction[i] > target[i] ? 1.0f : prediction[i] < target[i] ? -1.0f : 0.0f);
    }
}

struct Cosine {
    double a, b;  // norms, at least the floor
    bool a_floored, b_floored;
    double value;
};

COVER_INLINE Cosine cosine_of(const float* a, const float* b, std::int64_t channels) {
    constexpr double floor = 1e-12;
    float aa = 0, bb = 0, ab = 0;
    for_channel_runs(
        channels, [&]<int L>(std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
            Float<L> vaa{}, vbb{}, vab{};
            for (std::int64_t c = begin; c < end; c += L) {
                const Float<L> va = load<L>(a + c), vb = load<L>(b + c);
                vaa += va * va;
                vbb += vb * vb;
                vab += va * vb;
            }
            aa += horizontal_sum<L>(vaa);
            bb += horizontal_sum<L>(vbb);
            ab += horizontal_sum<L>(vab);
        });
    Cosine out;
    out.a = __builtin_sqrt(double{aa});
    out.b = __builtin_sqrt(double{bb});
    out.a_floored = out.a < floor;
    out.b_floored = out.b < floor;
    if (out.a_floored) out.a = floor;
    if (out.b_floored) out.b = floor;
    out.value = double{ab} / (out.a * out.b);
    return out;
}

MaskedSums cosine(const float* a, const float* b, const float* mask, std::int64_t pixels, std::int64_t channels) {
    double sum = 0;
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
        sum += double{mask[pixel]} * cosine_of(a + pixel * channels, b + pixel * channels, channels).value;
    return {sum, mask_sum(mask, pixels)};
}

void cosine_backward(float* da, float* db, const float* a, const float* b, const float* mask, double weight,
                     std::int64_t pixels, std::int64_t channels) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        const std::int64_t at = pixel * channels;
        const Cosine cosine = cosine_of(a + at, b + at, channels);
        const double size = weight * double{mask[pixel]};
        const auto cross = static_cast<float>(size / (cosine.a * cosine.b));
        // Below the floor a norm is a constant: the second term is absent.
        const auto own_a = static_cast<float>(cosine.a_floored ? 0.0 : size * cosine.value / (cosine.a * cosine.a));
        const auto own_b = static_cast<float>(cosine.b_floored ? 0.0 : size * cosine.value / (cosine.b * cosine.b));
        for_channels(channels, [=]<int L>(std::int64_t c) {
            const Float<L> va = load<L>(a + at + c), vb = load<L>(b + at + c);
            store<L>(da + at + c, vb * cross - va * own_a);
            store<L>(db + at + c, va * cross - vb * own_b);
        });
    }
}

}  // namespace

extern const LossKernels loss_kernels;
const LossKernels loss_kernels = {mask_sum, l1, l1_backward, cosine, cosine_backward};

}  // namespace cover::cpu::COVER_ISA
