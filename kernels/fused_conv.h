// Convolution that reads what is not stored. Its input is one tensor, or two joined along channels, each as an earlier
// convolution left it, with these still pending, in this order, each where it is there:
//
//   a = leaky_relu((x - mean) * rstd * gamma + beta)      group norm whose statistics are known (kernels/norm.h)
//   r = max_pool(a), or a up-sampled by two               kernels/pool.h; kernels/resize.h, without aligned corners
//   y = conv(r of the first part, r of the second)        kernels/conv.h
//   mean, rstd of y                                       of the group norm that follows, over pixels and a group
//
// So no activated, pooled, up-sampled or joined tensor is stored, nor the gradient of a joined one. Values of bfloat16
// are rounded where the plain ops would have stored them: after a, after r, and y before its statistics are taken. Spec
// section 2.
#pragma once

#include <array>
#include <span>

#include "kernels/conv.h"
#include "kernels/norm.h"

namespace cover {

enum class Resampling : std::uint8_t { none, max_pool, upsample };

// What is pending on one part of the input.
struct PendingParams {
    std::int64_t channels = 0;  // of the part; 0: there is no such part
    std::int64_t groups = 0;    // of its group norm; 0: x is taken as it is
    double slope = 1.0;         // of LeakyReLU for negative values; 1 means no activation
    Resampling resampling = Resampling::none;
};

struct FusedConvParams {
    ConvParams conv;  // of the input as it would be stored: c_in is the sum of the parts' channels
    PendingParams parts[2];
    std::int64_t groups = 0;  // of the statistics of y; 0: none are wanted
    double epsilon = 1e-5;

    // The grid on which a part is stored: twice (max_pool) or half (upsample) the convolution's.
    constexpr Grid part_grid(int part) const {
        const auto side = [&](std::int64_t s) {
            return parts[part].resampling == Resampling::none       ? s
                   : parts[part].resampling == Resampling::max_pool ? 2 * s
                                                                    : s / 2;
        };
        const Grid& g = conv.grid;
        return {g.spatial_dims, g.spatial_dims == 2 ? 1 : side(g.d), side(g.h), side(g.w)};
    }
    constexpr std::int64_t part_count(int part) const {
        return conv.n * part_grid(part).pixels() * parts[part].channels;
    }
    constexpr bool any_pending() const {
        return parts[1].channels > 0 || parts[0].groups > 0 || parts[0].resampling != Resampling::none;
    }
    // Of a part's group norm; of the one behind the convolution.
    constexpr GroupNormParams part_norm(int part) const {
        return {conv.n, part_grid(part).pixels(), parts[part].channels, parts[part].groups, epsilon, parts[part].slope};
    }
    constexpr GroupNormParams statistics() const {
        return {conv.n, conv.grid.pixels(), conv.c_out, groups, epsilon, 1.0};
    }
};

// can_run of rows of fused_conv_backward_data that take whatever is joined.
inline bool has_two_parts(const FusedConvParams& params, const DeviceFacts&) { return params.parts[1].channels > 0; }

// Throws Error(internal) on what validate() of the convolution and of the norms refuses, on channels whose sum is not
// c_in, and on sides that an up-sampling cannot have.
void validate(const FusedConvParams& params);

// One part: x (N, D', H', W', channels) of an activation's type; mean, rstd (N, groups) and gamma, beta (channels) of
// its real type, undefined where no group norm is pending.
struct Pending {
    ConstView x, mean, rstd, gamma, beta;
};

// The second part is undefined where there is none.
struct PendingInput {
    std::array<Pending, 2> parts;

    // What a pass reads at least.
    double bytes() const {
        double sum = 0;
        for (const Pending& part : parts)
            if (part.x) sum += static_cast<double>(part.x.count) * static_cast<double>(size_of(part.x.dtype));
        return sum;
    }
};

using FusedConvRun = void(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                          const FusedConvParams&, Stream&);
using FusedConvBackwardDataRun = void(View first, View second, ConstView dy, ConstView weight, const FusedConvParams&,
                                      Stream&);
using FusedConvBackwardWeightRun = void(View dweight, View dbias, ConstView dy, const PendingInput& input,
                                        const FusedConvParams&, Stream&);
using FusedConvVariant = Variant<FusedConvParams, FusedConvRun>;
using FusedConvBackwardDataVariant = Variant<FusedConvParams, FusedConvBackwardDataRun>;
using FusedConvBackwardWeightVariant = Variant<FusedConvParams, FusedConvBackwardWeightRun>;

std::span<const FusedConvVariant> fused_conv_table();
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_table();
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_table();

// y, mean and rstd (N, groups) are overwritten; the last two are undefined views where groups is 0.
FusedConvRun fused_conv;
// Of an input of two parts: the gradient of each as it enters the join, (N,D,H,W,channels), overwritten; that of what
// is pending on them is the plain ops'. The gradient of a single part is conv_backward_data's.
FusedConvBackwardDataRun fused_conv_backward_data;
// dweight and dbias are accumulated into (+=).
FusedConvBackwardWeightRun fused_conv_backward_weight;

// Whether the stream's device has rows of all that a convolution of these parts needs, forward and backward, and would
// take them: else a caller takes the plain ops. No where the stream does not fuse, or a selection names a row of one of
// the plain ops (conv, group_norm, max_pool, upsample, concat, split) and none of these. Throws Error(configuration)
// where a row of these is named that the device does not have in this type.
bool can_fuse_conv(const FusedConvParams& params, DType dtype, const Stream& stream);
// The same for any shape: whether it pays to leave something pending.
bool fuses_convs(DType dtype, const Stream& stream);

namespace ref {
std::span<const FusedConvVariant> fused_conv_rows();
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows();
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows();
}  // namespace ref
namespace cpu {
std::span<const FusedConvVariant> fused_conv_rows();
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows();
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows();
}  // namespace cpu

}  // namespace cover
