// A value in a computation: a tensor, or how it follows from tensors, and where its gradient is collected.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "kernels/fused_conv.h"

namespace cover {

// Computes a value a second time, bit for bit the same, from what the graph keeps anyway.
using Recipe = std::function<Tensor(Stream&)>;

// One part of a value that is pending: x and, where a group norm is, its statistics and parameters.
struct PendingPart {
    Tensor x, mean, rstd, gamma, beta;
    PendingParams params;

    Pending views() const;
};

// A value that nobody has stored: its parts joined along channels, as kernels/fused_conv.h says. A convolution reads it
// as it is; an op that cannot has it made (Graph::value).
struct PendingValue {
    int spatial_dims;
    Shape shape;
    std::vector<PendingPart> parts;  // one or two
    std::vector<int> nodes{};        // of two: where the gradient of each belongs (Var::node)
    Tensor made{};                   // once something had to have it; for as long as somebody holds the Var

    // By the plain ops.
    Tensor make(Stream& stream) const;
    // Whether a resampling can be left pending on top: of one part that has none yet.
    bool resamples() const { return parts.size() == 1 && parts[0].params.resampling == Resampling::none; }
};

// Of the group norm that follows a convolution, which the convolution's kernel has taken on its way; (N, groups).
struct NormStatistics {
    Tensor mean, rstd;
    double epsilon;
};

struct Var {
    Tensor value;                          // undefined while it is pending; Graph::value() has it in any case
    int node = -1;                         // place on the graph's tape; -1: a constant, no gradient is wanted
    std::shared_ptr<const Recipe> recipe;  // null: whoever needs the value later keeps the tensor
    std::shared_ptr<PendingValue> pending = nullptr;
    std::shared_ptr<const NormStatistics> statistics = nullptr;

    bool wants_gradient() const { return node >= 0; }
    const Shape& shape() const { return pending ? pending->shape : value.shape(); }
    DType dtype() const { return pending ? pending->parts[0].x.dtype() : value.dtype(); }
    Device device() const { return pending ? pending->parts[0].x.device() : value.device(); }
    // For Graph::accumulate, which needs no value.
    Var place() const { return {{}, node, nullptr}; }
};

// What a backward holds of a forward value: its recipe or what is pending, where there is one, or else the tensor.
// Activations, joined and up-sampled tensors are cheap to make and dear to store; without pending values, recipes are
// what a step saves memory by.
class Kept {
public:
    explicit Kept(const Var& var);

    Tensor value(Stream& stream) const { return recipe_ ? (*recipe_)(stream) : value_; }
    const Shape& shape() const { return shape_; }
    bool wants_gradient() const { return node_ >= 0; }
    Var place() const { return {{}, node_, nullptr}; }

private:
    Shape shape_;
    int node_;
    std::shared_ptr<const Recipe> recipe_;
    Tensor value_;
};

}  // namespace cover
