// Group norm, followed by LeakyReLU in the same pass. Spec sections 2 and 3.
//
//   xhat = (x - mean) * rstd,  rstd = 1 / sqrt(variance + epsilon)     mean and (biased) variance over pixels and the
//   y    = leaky_relu(xhat * gamma + beta)                             channels of one group of one sample
//
// x, y (N,D,H,W,C); gamma, beta (C); mean, rstd (N, groups). Neighbouring channels form a group. All but x, y and
// their gradients have the real type of x's (core/dtype.h).
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct GroupNormParams {
    std::int64_t n = 1;
    std::int64_t pixels = 1;  // D * H * W
    std::int64_t channels = 8, groups = 1;
    double epsilon = 1e-5;
    double slope = 1.0;  // of LeakyReLU for negative values; 1 means no activation

    constexpr std::int64_t count() const { return n * pixels * channels; }
};

// Throws Error(internal) unless sides are positive, groups divides channels, epsilon > 0 and 0 < slope <= 1.
void validate(const GroupNormParams& params);

using GroupNormStatisticsRun = void(View mean, View rstd, ConstView x, const GroupNormParams&, Stream&);
using GroupNormApplyRun = void(View y, ConstView x, ConstView mean, ConstView rstd, ConstView gamma, ConstView beta,
                               const GroupNormParams&, Stream&);
using GroupNormRun = void(View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta,
                          const GroupNormParams&, Stream&);
using GroupNormBackwardRun = void(View dx, View dgamma, View dbeta, ConstView dy, ConstView x, ConstView mean,
                                  ConstView rstd, ConstView gamma, ConstView beta, const GroupNormParams&, Stream&);
using GroupNormStatisticsVariant = Variant<GroupNormParams, GroupNormStatisticsRun>;
using GroupNormApplyVariant = Variant<GroupNormParams, GroupNormApplyRun>;
using GroupNormVariant = Variant<GroupNormParams, GroupNormRun>;
using GroupNormBackwardVariant = Variant<GroupNormParams, GroupNormBackwardRun>;

std::span<const GroupNormVariant> group_norm_table();
std::span<const GroupNormStatisticsVariant> group_norm_statistics_table();
std::span<const GroupNormApplyVariant> group_norm_apply_table();
std::span<const GroupNormBackwardVariant> group_norm_backward_table();

// y, mean and rstd are overwritten.
GroupNormRun group_norm;
// Its two halves, for a value that is applied later or not at all (kernels/fused_conv.h). All outputs are overwritten.
GroupNormStatisticsRun group_norm_statistics;
GroupNormApplyRun group_norm_apply;
// dx is overwritten; dgamma and dbeta are accumulated into. The activation's sign is recomputed from x.
GroupNormBackwardRun group_norm_backward;

namespace ref {
std::span<const GroupNormVariant> group_norm_rows();
std::span<const GroupNormStatisticsVariant> group_norm_statistics_rows();
std::span<const GroupNormApplyVariant> group_norm_apply_rows();
std::span<const GroupNormBackwardVariant> group_norm_backward_rows();
}  // namespace ref
namespace cpu {
std::span<const GroupNormVariant> group_norm_rows();
std::span<const GroupNormStatisticsVariant> group_norm_statistics_rows();
std::span<const GroupNormApplyVariant> group_norm_apply_rows();
std::span<const GroupNormBackwardVariant> group_norm_backward_rows();
}  // namespace cpu

}  // namespace cover
