// The tables of up-sampling: what each output index of an axis reads, and which rows make an output row.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cpu/resize.h"

namespace cover::cpu {

// The rows of a sparse matrix, one per output index of an axis.
struct Axis {
    std::int64_t inputs, outputs;
    std::vector<std::int32_t> start, index;
    std::vector<float> weight;

    Axis(std::int64_t inputs_, const std::vector<std::vector<std::pair<std::int32_t, double>>>& rows)
        : inputs(inputs_), outputs(static_cast<std::int64_t>(rows.size())), start{0} {
        for (const auto& row : rows) {
            for (const auto& [i, w] : row) {
                index.push_back(i);
                weight.push_back(static_cast<float>(w));
            }
            start.push_back(static_cast<std::int32_t>(index.size()));
        }
    }
    AxisTable table() const { return {start.data(), index.data(), weight.data()}; }
};

// Matrix of one axis with `side` input pixels (2 side outputs), times gain; transposed for the gradient.
Axis axis_of(std::int64_t side, bool doubled, bool align_corners, double gain, bool transposed);

// The input rows whose weighted sum an output row is resampled from (ResizeKernels::blend).
struct BlendedRows {
    std::vector<std::int64_t> offsets;
    std::vector<float> weights;

    int count() const { return static_cast<int>(offsets.size()); }
    // Those of output row (jd, jh); offset(kd, kh) is where an input row begins.
    template <class Offset>
    void of(const Axis& d, std::int64_t jd, const Axis& h, std::int64_t jh, const Offset& offset) {
        offsets.clear();
        weights.clear();
        const auto begin = [](const Axis& axis, std::int64_t j) {
            return static_cast<std::size_t>(axis.start[static_cast<std::size_t>(j)]);
        };
        for (std::size_t kd = begin(d, jd); kd < begin(d, jd + 1); ++kd)
            for (std::size_t kh = begin(h, jh); kh < begin(h, jh + 1); ++kh) {
                offsets.push_back(offset(d.index[kd], h.index[kh]));
                weights.push_back(d.weight[kd] * h.weight[kh]);
            }
    }
};

}  // namespace cover::cpu
