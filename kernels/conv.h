// Convolution with stride 1 and zero padding that keeps the sides: 3^nd (padding 1) and 1^nd. Spec sections 2 and 3.
//
//   y[n,p,o] = bias[o] + sum over taps t and channels i of x[n, p + t - pad, i] * weight[t, i, o]
//
// x (N,D,H,W,Cin), weight (kD,kH,kW,Cin,Cout) with kD = 1 in 2D, bias (Cout), y (N,D,H,W,Cout).
// weight, bias and their gradients have the real type of x's (core/dtype.h). A bfloat16 row rounds the weights, not the
// bias, to bfloat16 before it multiplies.
#pragma once

#include <span>

#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

struct ConvParams {
    std::int64_t n = 1;
    Grid grid;
    std::int64_t c_in = 1, c_out = 1;
    int kernel = 3;  // side of the kernel on every spatial axis: 1 or 3

    constexpr int taps() const { return kernel == 1 ? 1 : (grid.spatial_dims == 2 ? 9 : 27); }
    constexpr int kernel_depth() const { return grid.spatial_dims == 2 ? 1 : kernel; }
    constexpr std::int64_t x_count() const { return n * grid.pixels() * c_in; }
    constexpr std::int64_t y_count() const { return n * grid.pixels() * c_out; }
    constexpr std::int64_t weight_count() const { return taps() * c_in * c_out; }
    // Multiplications and additions of one pass (forward, data gradient and weight gradient alike).
    double flops() const { return 2.0 * static_cast<double>(n * grid.pixels()) * static_cast<double>(weight_count()); }
};

// Throws Error(internal) on sides below 1, a kernel that is not 1 or 3, spatial_dims that is not 2 or 3, or D != 1 in
// 2D.
void validate(const ConvParams& params);

using ConvRun = void(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams&, Stream&);
using ConvBackwardDataRun = void(View dx, ConstView dy, ConstView weight, const ConvParams&, Stream&);
using ConvBackwardWeightRun = void(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams&, Stream&);
using ConvVariant = Variant<ConvParams, ConvRun>;
using ConvBackwardDataVariant = Variant<ConvParams, ConvBackwardDataRun>;
using ConvBackwardWeightVariant = Variant<ConvParams, ConvBackwardWeightRun>;

std::span<const ConvVariant> conv_table();
std::span<const ConvBackwardDataVariant> conv_backward_data_table();
std::span<const ConvBackwardWeightVariant> conv_backward_weight_table();

// y is overwritten.
ConvRun conv;
// dx is overwritten.
ConvBackwardDataRun conv_backward_data;
// dweight and dbias are accumulated into (+=): parameters may be used more than once in a step.
ConvBackwardWeightRun conv_backward_weight;

// Rows by folder; see kernels/conv.cpp for their order.
namespace ref {
std::span<const ConvVariant> conv_rows();
std::span<const ConvBackwardDataVariant> conv_backward_data_rows();
std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows();
}  // namespace ref
namespace cpu {
std::span<const ConvVariant> conv_rows();
std::span<const ConvBackwardDataVariant> conv_backward_data_rows();
std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows();
}  // namespace cpu

}  // namespace cover
