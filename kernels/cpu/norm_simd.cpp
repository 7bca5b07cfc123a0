#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

// Four pixels at a time: their terms are added as a tree before they meet the running sum, which is read and written
// once. The rows of x are read in order, whatever the number of channels.
constexpr int block = 4;

void moments(float* sum, float* square, const float* x, std::int64_t pixels, std::int64_t channels) {
    for (std::int64_t c = 0; c < channels; ++c) sum[c] = square[c] = 0;
    const auto add = [=]<int count>(std::int64_t pixel) {
        for_channels(channels, [=]<int L>(std::int64_t c) {
            const Float<L> origin = load<L>(x + c);
            Float<L> s[count], q[count];
            for (int i = 0; i < count; ++i) {
                s[i] = load<L>(x + (pixel + i) * channels + c) - origin;
                q[i] = s[i] * s[i];
            }
            for (int width = count / 2; width >= 1; width /= 2) {
                for (int i = 0; i < width; ++i) {
                    s[i] += s[i + width];
                    q[i] += q[i + width];
                }
            }
            store<L>(sum + c, load<L>(sum + c) + s[0]);
            store<L>(square + c, load<L>(square + c) + q[0]);
        });
    };
    std::int64_t pixel = 0;
    for (; pixel + block <= pixels; pixel += block) add.template operator()<block>(pixel);
    for (; pixel < pixels; ++pixel) add.template operator()<1>(pixel);
}

void apply(float* y, const float* x, NormAffine affine, std::int64_t pixels, std::int64_t channels, bool streaming) {
    choose_stores(
        streaming, [=]<bool past>() __attribute__((always_inline)) {
            for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
                const float* from = x + pixel * channels;
                float* to = y + pixel * channels;
                for_channels(channels, [=]<int L>(std::int64_t c) {
                    put<L, past>(to + c, affine_leaky<L>(load<L>(from + c), load<L>(affine.scale + c),
                                                         load<L>(affine.shift + c), affine.slope));
                });
            }
        });
}

// dy through the activation.
template <int L>
COVER_INLINE Float<L> activated(Float<L> dy, Float<L> x, NormAffine affine, std::int64_t c) {
    const Float<L> v = x * load<L>(affine.scale + c) + load<L>(affine.shift + c);
    return v > 0 ? dy : dy * affine.slope;
}

void gradient_sums(float* sum, float* product, const float* dy, const float* x, const float* mean, NormAffine affine,
                   std::int64_t pixels, std::int64_t channels) {
    for (std::int64_t c = 0; c < channels; ++c) sum[c] = product[c] = 0;
    const auto add = [=]<int count>(std::int64_t pixel) {
        for_channels(channels, [=]<int L>(std::int64_t c) {
            const Float<L> origin = load<L>(mean + c);
            Float<L> s[count], q[count];
            for (int i = 0; i < count; ++i) {
                const Float<L> v = load<L>(x + (pixel + i) * channels + c);
                s[i] = activated<L>(load<L>(dy + (pixel + i) * channels + c), v, affine, c);
                q[i] = s[i] * (v - origin);
            }
            for (int width = count / 2; width >= 1; width /= 2) {
                for (int i = 0; i < width; ++i) {
                    s[i] += s[i + width];
                    q[i] += q[i + width];
                }
            }
            store<L>(sum + c, load<L>(sum + c) + s[0]);
            store<L>(product + c, load<L>(product + c) + q[0]);
        });
    };
    std::int64_t pixel = 0;
    for (; pixel + block <= pixels; pixel += block) add.template operator()<block>(pixel);
    for (; pixel < pixels; ++pixel) add.template operator()<1>(pixel);
}

void gradient_apply(float* dx, const float* dy, const float* x, const float* mean, NormAffine affine, const float* by_x,
                    const float* constant, std::int64_t pixels, std::int64_t channels, bool streaming) {
    choose_stores(
        streaming, [=]<bool past>() __attribute__((always_inline)) {
            for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
                const std::int64_t at = pixel * channels;
                for_channels(channels, [=]<int L>(std::int64_t c) {
                    const Float<L> v = load<L>(x + at + c);
                    const Float<L> g = activated<L>(load<L>(dy + at + c), v, affine, c);
                    put<L, past>(dx + at + c, g * load<L>(affine.scale + c) +
                                                  (v - load<L>(mean + c)) * load<L>(by_x + c) + load<L>(constant + c));
                });
            }
        });
}

}  // namespace

extern const NormKernels norm_kernels;
const NormKernels norm_kernels = {moments, apply, gradient_sums, gradient_apply};

}  // namespace cover::cpu::COVER_ISA
