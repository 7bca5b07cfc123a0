#include "kernels/cpu/conv_input.h"

namespace cover::cpu {

PartTables::PartTables(const Pending& views, const FusedConvParams& params, int index)
    : x(views.x.as<float>()),
      grid(params.part_grid(index)),
      channels(params.parts[index].channels),
      resampling(params.parts[index].resampling) {
    if (params.parts[index].groups > 0) {
        affine.emplace(params.part_norm(index), 1);
        affine->fill_all(views.mean.as<float>(), views.rstd.as<float>(), views.gamma.as<float>(),
                         views.beta.as<float>());
    }
    if (resampling == Resampling::upsample) {
        d = axis_of(grid.d, grid.spatial_dims == 3, false, 1, false);
        h = axis_of(grid.h, true, false, 1, false);
        w = axis_of(grid.w, true, false, 1, false);
    }
}

NormAffine PartTables::affine_at(i64 sample, i64 c0) const {
    if (!affine) return {nullptr, nullptr, 1};
    NormAffine a = affine->at(sample);
    a.scale += c0;
    a.shift += c0;
    return a;
}

namespace {

// Inputs [first, last) that outputs [begin, end) of an axis read.
struct AxisRange {
    i64 first, last;

    AxisRange(const Axis& axis, i64 begin, i64 end)
        : first(axis.index[static_cast<std::size_t>(axis.start[static_cast<std::size_t>(begin)])]),
          last(axis.index[static_cast<std::size_t>(axis.start[static_cast<std::size_t>(end)]) - 1] + 1) {}
    i64 size() const { return last - first; }
};

// Channels [c0, c0 + channels) of one part in the lines of one strip. What an up-sampling reads is activated once,
// ahead of the lines.
class PartLines {
public:
    PartLines(const ConvInputKernels& kernels, const ResizeKernels& resize, const PartTables& part, i64 c0,
              i64 channels)
        : kernels_(kernels), resize_(resize), part_(part), c0_(c0), channels_(channels) {}

    void prepare(const StripPlan& plan, const Strip& s) {
        if (part_.resampling != Resampling::upsample) return;
        samples_ = s.n0;
        d_.emplace(*part_.d, std::max<i64>(s.d0 - plan.pad_d, 0), std::min(s.d1 + plan.pad_d, plan.d));
        h_.emplace(*part_.h, std::max<i64>(s.h0 - plan.pad, 0), std::min(s.h1 + plan.pad, plan.h));
        activated_.emplace((s.n1 - s.n0) * d_->size() * h_->size() * line_floats());
        blended_.emplace(line_floats());
        resampled_.emplace(plan.w * channels_);
        for (i64 n = s.n0; n < s.n1; ++n)
            for (i64 d = d_->first; d < d_->last; ++d)
                for (i64 h = h_->first; h < h_->last; ++h)
                    activate(activated_->data() + offset(n, d, h), channels_, n, d, h);
    }

    // Line (n, d, h) of the strip, its pixels out_stride floats apart.
    void write(float* out, i64 out_stride, i64 n, i64 d, i64 h) {
        if (part_.resampling == Resampling::none) return activate(out, out_stride, n, d, h);
        if (part_.resampling == Resampling::max_pool) return pool(out, out_stride, n, d, h);
        rows_.of(*part_.d, d, *part_.h, h, [&](i64 kd, i64 kh) { return offset(n, kd, kh); });
        resize_.blend(blended_->data(), activated_->data(), rows_.offsets.data(), rows_.weights.data(), rows_.count(),
                      line_floats());
        const i64 width = 2 * part_.grid.w;
        float* to = out_stride == channels_ ? out : resampled_->data();
        resize_.resample(to, blended_->data(), part_.w->table(), width, channels_, false);
        if (to != out) copy_pixels(out, out_stride, to, channels_, width, channels_);
    }

private:
    i64 line_floats() const { return part_.grid.w * channels_; }
    // Of a line in activated_.
    i64 offset(i64 n, i64 d, i64 h) const {
        return (((n - samples_) * d_->size() + d - d_->first) * h_->size() + h - h_->first) * line_floats();
    }

    void activate(float* out, i64 out_stride, i64 n, i64 d, i64 h) const {
        const float* from = part_.line(n, d, h) + c0_;
        if (part_.affine)
            kernels_.activate({out, out_stride, part_.channels, part_.grid.w, channels_}, from,
                              part_.affine_at(n, c0_));
        else
            copy_pixels(out, out_stride, from, part_.channels, part_.grid.w, channels_);
    }

    void pool(float* out, i64 out_stride, i64 n, i64 d, i64 h) const {
        const bool volume = part_.grid.spatial_dims == 3;
        i64 offsets[4];
        const int rows = volume ? 4 : 2;
        for (int i = 0; i < rows; ++i)
            offsets[i] = part_.line(n, volume ? 2 * d + i / 2 : d, 2 * h + i % 2) + c0_ - part_.x;
        kernels_.pool({out, out_stride, part_.channels, part_.grid.w / 2, channels_}, part_.x, offsets, rows,
                      part_.affine_at(n, c0_));
    }

    const ConvInputKernels& kernels_;
    const ResizeKernels& resize_;
    const PartTables& part_;
    i64 c0_, channels_;
    i64 samples_ = 0;
    std::optional<AxisRange> d_, h_;
    std::optional<Workspace<float>> activated_, blended_, resampled_;
    BlendedRows rows_;
};

}  // namespace

PendingConvInput::PendingConvInput(const ConvInputKernels& kernels, const ResizeKernels& resize,
                                   const PendingInput& input, const FusedConvParams& params)
    : kernels_(kernels), resize_(resize) {
    for (int i = 0; i < 2; ++i)
        if (params.parts[i].channels > 0) parts_.emplace_back(input.parts[static_cast<std::size_t>(i)], params, i);
}

void PendingConvInput::fill(const StripPlan& plan, const Strip& strip, i64 c0, i64 channels, float* out) const {
    // A block of channels may lie in both parts.
    std::vector<PartLines> lines;
    std::vector<i64> at;
    i64 first = 0;
    for (const PartTables& part : parts_) {
        const i64 begin = std::max(c0, first), end = std::min(c0 + channels, first + part.channels);
        if (begin < end) {
            lines.emplace_back(kernels_, resize_, part, begin - first, end - begin);
            lines.back().prepare(plan, strip);
            at.push_back(begin - c0);
        }
        first += part.channels;
    }
    plan.for_lines(strip, channels, out, [&](float* to, i64 n, i64 d, i64 h) {
        for (std::size_t i = 0; i < lines.size(); ++i) lines[i].write(to + at[i], channels, n, d, h);
    });
}

}  // namespace cover::cpu
