// Statistics of a convolution's output for the group norm behind it: the moments of each strip are summed by the task
// that has just computed it, while it is in the cache.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/norm_parts.h"

namespace cover::cpu {

class StripMoments {
public:
    StripMoments(const NormKernels& kernels, const GroupNormParams& params) : kernels_(kernels), p_(params) {}
    // Ahead of sum() for each strip; the strips follow one another in y.
    void cut(const StripPlan& plan, const std::vector<Strip>& strips, const float* y);
    void sum(i64 strip);
    // Instead of both, once all of y is there.
    void sum_samples(const StripPlan& plan, const float* y, Stream& stream);
    // mean and rstd (n, groups).
    void finish(float* mean, float* rstd, Stream& stream) const;

private:
    void sum_piece(std::size_t i);

    const NormKernels& kernels_;
    GroupNormParams p_;
    std::optional<Workspace<float>> sums_;
    std::vector<SummedPiece> pieces_;
    std::vector<std::size_t> begin_;  // of each strip's pieces, and the end of all
};

}  // namespace cover::cpu
