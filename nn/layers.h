// The building blocks of the network: they declare their parameters when made and append to a graph when applied.
#pragma once

#include <string>

#include "autograd/ops.h"
#include "nn/module.h"

namespace cover {

inline constexpr double norm_epsilon = 1e-5;
inline constexpr double leaky_slope = 0.2;
inline constexpr std::int64_t channels_per_group = 8;

// [3^nd convolution -> group norm (8 channels a group) -> LeakyReLU 0.2] twice. Spec section 2.
class DoubleConv {
public:
    // prefix: "backbone.inc"; names become prefix + ".double_conv.0.weight" and so on.
    DoubleConv(ParameterSet& parameters, const std::string& prefix, std::int64_t c_in, std::int64_t c_out);
    Var operator()(Graph& graph, const ParameterSet& parameters, Var x) const;

private:
    struct Stage {
        int weight, bias, gamma, beta;
    };
    std::int64_t groups_;
    Stage stages_[2];
};

// 1^nd convolution followed by group norm with one group. Spec section 3.
class Projection {
public:
    Projection(ParameterSet& parameters, const std::string& prefix, std::int64_t c_in, std::int64_t c_out);
    Var operator()(Graph& graph, const ParameterSet& parameters, const Var& x) const;

private:
    int weight_, bias_, gamma_, beta_;
};

}  // namespace cover
