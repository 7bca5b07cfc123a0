// The ops of the graph: in ops/<op>.cpp the call of the kernel and, directly below it, the gradient. Shapes and
// conventions are those of the kernel's page in kernels/. Where the graph fuses (Graph::fuses), conv may call
// kernels/fused_conv.h instead, and group_norm, max_pool, upsample, concat and split_batch may leave their result
// pending (var.h).
#pragma once

#include <utility>

#include "autograd/graph.h"
#include "kernels/warp.h"

namespace cover {

// Of the group norm that will follow, for the convolution's kernel to take where it can; 0 groups: none follows.
struct NormAhead {
    std::int64_t groups = 0;
    double epsilon = 1e-5;
};

// x (N,D,H,W,Cin), weight (kD,kH,kW,Cin,Cout), bias (Cout) -> (N,D,H,W,Cout). weight and bias are leaves or constants.
Var conv(Graph& graph, const Var& x, const Var& weight, const Var& bias, NormAhead norm = {});

// x (N,D,H,W,C), gamma and beta (C) -> same shape. slope of the LeakyReLU that follows; 1: none.
Var group_norm(Graph& graph, const Var& x, const Var& gamma, const Var& beta, std::int64_t groups, double epsilon,
               double slope);

// x (N,D,H,W,C), pooled sides even -> (N,D/2,H/2,W/2,C); in 2D the depth stays 1.
Var max_pool(Graph& graph, const Var& x);

// gain * x, up-sampled by two: (N,D,H,W,C) -> (N,2D,2H,2W,C); in 2D the depth stays 1.
Var upsample(Graph& graph, const Var& x, bool align_corners, double gain = 1.0);

// source (N,D,H,W,C), field (N,D,H,W,nd) in pixels -> (N,D,H,W,C).
Var warp(Graph& graph, const Var& source, const Var& field, WarpConvention convention);

// q, k (N,D,H,W, heads * head_dim) -> displacement (N,D,H,W,nd).
Var local_attention(Graph& graph, const Var& q, const Var& k, int heads, int head_dim, int radius);

// prediction (N,D,H,W,C); target likewise and mask (N,D,H,W,1), both constants -> scalar (1).
Var masked_l1(Graph& graph, const Var& prediction, const Tensor& target, const Tensor& mask);
// a, b (N,D,H,W,C); mask (N,D,H,W,1), a constant -> scalar (1).
Var masked_cosine(Graph& graph, const Var& a, const Var& b, const Tensor& mask);

// a, b of one shape, any rank -> the same. Throws Error(internal) where they differ.
Var add(Graph& graph, const Var& a, const Var& b);
// factor * x, of any shape.
Var scale(Graph& graph, const Var& x, double factor);
// x between float32 and bfloat16; x itself where it has that type already.
Var cast(Graph& graph, const Var& x, DType dtype);
// (N,D,H,W,Ca), (N,D,H,W,Cb) -> (N,D,H,W,Ca+Cb)
Var concat(Graph& graph, const Var& a, const Var& b);
// (2B,D,H,W,C) -> the first and the second B samples. The values share memory with x.
std::pair<Var, Var> split_batch(Graph& graph, const Var& x);

}  // namespace cover
