// What a run knows about numbers that are not finite, or far from their recent past. A step looks at two numbers, its
// loss and its gradient norm (step.h); everything here is done only after one of them was bad.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "cover/model.h"
#include "cover/step.h"
#include "cover/views.h"

namespace cover {

struct NonFinite {
    std::string tensor;                 // "output of conv", "gradient of warp", "weight", "gradient of weight", "image"
    std::string layer;                  // "backbone.inc.double_conv.0"; of an op without weights: the last before it
    std::vector<std::int64_t> samples;  // places in the batch where that tensor is not finite; empty: not of one sample

    // "output of conv in backbone.inc.double_conv.0"
    std::string place() const;
};

// The first tensor of the step that is not finite, in the order of computation: weights, views, forward, backward,
// gradients of weights. The step is computed again with every tensor looked at; gradients are left in the model's
// buffer, weights as they were. nullopt: everything is finite.
std::optional<NonFinite> find_non_finite(Model& model, const Views& views, LossTerms terms, Stream& stream);

// Notices a value far from those before it: further from their median than `limit` times their spread, which is 1.4826
// times the median absolute deviation (the standard deviation, were they normal) and at least 1 % of the median.
class SpreadMonitor {
public:
    explicit SpreadMonitor(std::size_t window = 101, double limit = 10) : window_(window), limit_(limit) {}

    struct Outlier {
        double median = 0, spread = 0;  // of the window before this value
    };
    // Takes the value in. Silent until a quarter of the window is filled; a value that is not finite is left out.
    std::optional<Outlier> add(double value);

private:
    std::size_t window_;
    double limit_;
    std::deque<double> recent_;
};

}  // namespace cover
