// A value in a computation: a tensor, and where its gradient is collected.
#pragma once

#include <functional>
#include <memory>

#include "core/tensor.h"
#include "kernels/variant.h"

namespace cover {

// Computes a value a second time, bit for bit the same, from what the graph keeps anyway.
using Recipe = std::function<Tensor(Stream&)>;

struct Var {
    Tensor value;
    int node = -1;                         // place on the graph's tape; -1: a constant, no gradient is wanted
    std::shared_ptr<const Recipe> recipe;  // null: whoever needs the value later keeps the tensor

    bool wants_gradient() const { return node >= 0; }
    const Shape& shape() const { return value.shape(); }
};

// What a backward holds of a forward value: its recipe where it has one, or else the tensor. Activations, joined and
// up-sampled tensors are cheap to make and dear to store; this is what halves the memory of a step.
class Kept {
public:
    explicit Kept(const Var& var)
        : shape_(var.shape()), node_(var.node), recipe_(var.recipe), value_(var.recipe ? Tensor() : var.value) {}

    Tensor value(Stream& stream) const { return recipe_ ? (*recipe_)(stream) : value_; }
    const Shape& shape() const { return shape_; }
    bool wants_gradient() const { return node_ >= 0; }
    // For Graph::accumulate, which needs no value.
    Var place() const { return {{}, node_, nullptr}; }

private:
    Shape shape_;
    int node_;
    std::shared_ptr<const Recipe> recipe_;
    Tensor value_;
};

}  // namespace cover
