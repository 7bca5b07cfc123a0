#include "kernels/cpu/resize.h"

#include "kernels/cpu/resize_axis.h"
#include "kernels/cpu/rows.h"
#include "kernels/resize.h"

namespace cover::cpu {

Axis axis_of(std::int64_t side, bool doubled, bool align_corners, double gain, bool transposed) {
    const std::int64_t outputs = doubled ? 2 * side : side;
    std::vector<std::vector<std::pair<std::int32_t, double>>> rows(
        static_cast<std::size_t>(transposed ? side : outputs));
    const auto add = [&](std::int64_t output, std::int64_t input, double weight) {
        if (weight == 0) return;
        const std::int64_t row = transposed ? input : output, column = transposed ? output : input;
        rows[static_cast<std::size_t>(row)].emplace_back(static_cast<std::int32_t>(column), weight * gain);
    };
    for (std::int64_t j = 0; j < outputs; ++j) {
        double at = static_cast<double>(j);
        if (doubled && align_corners)
            at = static_cast<double>(j * (side - 1)) / static_cast<double>(2 * side - 1);
        else if (doubled)
            at = std::max((at + 0.5) / 2 - 0.5, 0.0);
        const auto left = std::min(static_cast<std::int64_t>(at), side - 1);
        const double fraction = at - static_cast<double>(left);
        const std::int64_t right = std::min(left + 1, side - 1);
        if (right == left) {
            add(j, left, 1);
        } else {
            add(j, left, 1 - fraction);
            add(j, right, fraction);
        }
    }
    return {transposed ? outputs : side, rows};
}

namespace {

// out (N, outputs of d, h, w, C) from in (N, inputs of d, h, w, C).
void resample(const ResizeKernels& kernels, float* out, const float* in, std::int64_t n, const Axis& d, const Axis& h,
              const Axis& w, std::int64_t channels, Stream& stream) {
    const std::int64_t line_in = w.inputs * channels, line_out = w.outputs * channels;
    const Pieces pieces =
        Pieces::of(n * d.outputs * h.outputs, std::max(line_in, line_out), task_elements);  // rows of out
    const bool streaming = worth_streaming(out, n * d.outputs * h.outputs * line_out, channels);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        Workspace<float> blended(line_in);
        BlendedRows rows;
        const std::int64_t begin = pieces.begin(piece);
        for (std::int64_t row = begin; row < begin + pieces.length(piece); ++row) {
            const std::int64_t sample = row / (h.outputs * d.outputs);
            rows.of(d, row / h.outputs % d.outputs, h, row % h.outputs, [&](std::int64_t kd, std::int64_t kh) {
                return ((sample * d.inputs + kd) * h.inputs + kh) * line_in;
            });
            kernels.blend(blended.data(), in, rows.offsets.data(), rows.weights.data(), rows.count(), line_in);
            kernels.resample(out + row * line_out, blended.data(), w.table(), w.outputs, channels, streaming);
        }
    });
}

void run(const ResizeKernels& kernels, float* out, const float* in, const UpsampleParams& p, bool transposed,
         Stream& stream) {
    const Axis d = axis_of(p.grid.d, p.grid.spatial_dims == 3, p.align_corners, 1, transposed);
    const Axis h = axis_of(p.grid.h, true, p.align_corners, 1, transposed);
    const Axis w = axis_of(p.grid.w, true, p.align_corners, p.gain, transposed);
    resample(kernels, out, in, p.n, d, h, w, p.channels, stream);
}

}  // namespace

void upsample(const ResizeKernels& kernels, View y, ConstView x, const UpsampleParams& params, Stream& stream) {
    run(kernels, y.as<float>(), x.as<float>(), params, false, stream);
}

void upsample_backward(const ResizeKernels& kernels, View dx, ConstView dy, const UpsampleParams& params,
                       Stream& stream) {
    run(kernels, dx.as<float>(), dy.as<float>(), params, true, stream);
}

std::span<const UpsampleVariant> upsample_rows() {
    return simd_rows<UpsampleVariant, UpsampleParams, UpsampleRun, upsample, avx2::resize_kernels,
                     avx512::resize_kernels>();
}
std::span<const UpsampleBackwardVariant> upsample_backward_rows() {
    return simd_rows<UpsampleBackwardVariant, UpsampleParams, UpsampleBackwardRun, upsample_backward,
                     avx2::resize_kernels, avx512::resize_kernels>();
}

}  // namespace cover::cpu
