// Parts of group norm that the fused convolution takes one by one: moments that are joined, and the affine that
// follows.
#pragma once

#include <span>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/rows.h"
#include "kernels/norm.h"

namespace cover::cpu {

// Neighbouring (folded) pixels of one sample, and where NormKernels::moments left their sums: (2, folded channels).
struct SummedPiece {
    const float* first;  // pixel
    float* sums;
    std::int64_t pixels;
};

// mean and rstd (groups) of one sample out of all its pieces, in their order. `fold` neighbouring pixels are one.
void join_moments(float* mean, float* rstd, std::span<const SummedPiece> pieces, std::int64_t fold,
                  const GroupNormParams& params);

// Tables of one value per folded channel and sample, out of one value per channel: row `sample` of `values`.
template <class Value>
void fill_folded(Workspace<float>& values, std::int64_t sample, std::int64_t fold, std::int64_t channels, Value value) {
    float* row = values.data() + sample * fold * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
        const auto v = static_cast<float>(value(c));
        for (std::int64_t i = 0; i < fold; ++i) row[i * channels + c] = v;
    }
}

// Scale and shift of y = leaky(x * scale + shift), from the stored mean and rstd: the backward pass then finds the same
// signs as the forward pass.
class AffineTables {
public:
    AffineTables(const GroupNormParams& params, std::int64_t fold)
        : scale_(params.n * fold * params.channels),
          shift_(params.n * fold * params.channels),
          p_(params),
          fold_(fold) {}
    // From the rows (groups) of one sample.
    void fill(std::int64_t sample, const float* mean, const float* rstd, const float* gamma, const float* beta);
    // From (n, groups).
    void fill_all(const float* mean, const float* rstd, const float* gamma, const float* beta) {
        for (std::int64_t i = 0; i < p_.n; ++i) fill(i, mean + i * p_.groups, rstd + i * p_.groups, gamma, beta);
    }
    NormAffine at(std::int64_t sample) const {
        const std::int64_t row = sample * fold_ * p_.channels;
        return {scale_.data() + row, shift_.data() + row, static_cast<float>(p_.slope)};
    }

private:
    Workspace<float> scale_, shift_;
    GroupNormParams p_;
    std::int64_t fold_;
};

}  // namespace cover::cpu
