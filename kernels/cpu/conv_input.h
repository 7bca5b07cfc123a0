// Where the drivers of the CPU convolutions take their input from: a tensor as it is, or parts on which group norm,
// pooling or up-sampling are still pending (kernels/fused_conv.h) and which are filled in strip by strip.
#pragma once

#include <optional>

#include "kernels/cpu/conv_input_simd.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/norm_parts.h"
#include "kernels/cpu/resize_axis.h"
#include "kernels/fused_conv.h"

namespace cover::cpu {

class ConvInput {
public:
    virtual ~ConvInput() = default;
    // Channels [c0, c0 + channels) of a strip with its halo; zero outside the grid. Called by many threads.
    virtual void fill(const StripPlan& plan, const Strip& strip, i64 c0, i64 channels, float* out) const = 0;
    // (n, d, h, w, all channels), where it lies so in memory; else null.
    virtual const float* stored() const { return nullptr; }
};

class StoredInput final : public ConvInput {
public:
    StoredInput(const float* x, i64 channels) : x_(x), all_(channels) {}
    void fill(const StripPlan& plan, const Strip& strip, i64 c0, i64 channels, float* out) const override {
        plan.for_lines(strip, channels, out, [&](float* to, i64 a, i64 z, i64 y) {
            const float* from = x_ + ((a * plan.d + z) * plan.h + y) * plan.w * all_ + c0;
            copy_pixels(to, channels, from, all_, plan.w, channels);
        });
    }
    const float* stored() const override { return x_; }

private:
    const float* x_;
    i64 all_;
};

// One part of a pending input, with the tables that its values follow from.
struct PartTables {
    const float* x;
    Grid grid;  // of x
    i64 channels;
    Resampling resampling;
    std::optional<AffineTables> affine;  // none: x is taken as it is
    std::optional<Axis> d, h, w;         // of an up-sampling

    PartTables(const Pending& views, const FusedConvParams& params, int index);
    const float* line(i64 n, i64 d_, i64 h_) const { return x + ((n * grid.d + d_) * grid.h + h_) * grid.w * channels; }
    // Null tables where there is no group norm.
    NormAffine affine_at(i64 sample, i64 c0) const;
};

class PendingConvInput final : public ConvInput {
public:
    PendingConvInput(const ConvInputKernels& kernels, const ResizeKernels& resize, const PendingInput& input,
                     const FusedConvParams& params);
    void fill(const StripPlan& plan, const Strip& strip, i64 c0, i64 channels, float* out) const override;

private:
    const ConvInputKernels& kernels_;
    const ResizeKernels& resize_;
    std::vector<PartTables> parts_;
};

}  // namespace cover::cpu
