// A value in a computation: a tensor, and where its gradient is collected.
#pragma once

#include "core/tensor.h"

namespace cover {

struct Var {
    Tensor value;
    int node = -1;  // place on the graph's tape; -1: a constant, no gradient is wanted

    bool wants_gradient() const { return node >= 0; }
    const Shape& shape() const { return value.shape(); }
};

}  // namespace cover
