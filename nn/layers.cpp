#include "nn/layers.h"

namespace cover {

DoubleConv::DoubleConv(ParameterSet& parameters, const std::string& prefix, std::int64_t c_in, std::int64_t c_out)
    : groups_(c_out / channels_per_group) {
    require(c_out >= channels_per_group && c_out % channels_per_group == 0, ErrorKind::configuration, "[network] ",
            prefix, " has ", c_out, " channels; every channel count must be a positive multiple of ",
            channels_per_group);
    std::int64_t width = c_in;
    int layer = 0;
    for (Stage& stage : stages_) {
        const std::string conv = text(prefix, ".double_conv.", layer), norm = text(prefix, ".double_conv.", layer + 1);
        stage.weight = parameters.add_conv_weight(conv + ".weight", width, c_out, 3);
        stage.bias = parameters.add_vector(conv + ".bias", ParameterKind::conv_bias, c_out,
                                           parameters.list()[static_cast<std::size_t>(stage.weight)].fan_in);
        stage.gamma = parameters.add_vector(norm + ".weight", ParameterKind::norm_weight, c_out);
        stage.beta = parameters.add_vector(norm + ".bias", ParameterKind::norm_bias, c_out);
        width = c_out;
        layer += 3;  // the activation has a number too
    }
}

Var DoubleConv::operator()(Graph& graph, const ParameterSet& parameters, Var x) const {
    for (const Stage& stage : stages_) {
        x = conv(graph, x, parameters.var(graph, stage.weight), parameters.var(graph, stage.bias),
                 {.groups = groups_, .epsilon = norm_epsilon});
        x = group_norm(graph, x, parameters.var(graph, stage.gamma), parameters.var(graph, stage.beta), groups_,
                       norm_epsilon, leaky_slope);
    }
    return x;
}

Projection::Projection(ParameterSet& parameters, const std::string& prefix, std::int64_t c_in, std::int64_t c_out) {
    weight_ = parameters.add_conv_weight(prefix + ".proj.weight", c_in, c_out, 1);
    bias_ = parameters.add_vector(prefix + ".proj.bias", ParameterKind::conv_bias, c_out, c_in);
    gamma_ = parameters.add_vector(prefix + ".norm.weight", ParameterKind::norm_weight, c_out);
    beta_ = parameters.add_vector(prefix + ".norm.bias", ParameterKind::norm_bias, c_out);
}

Var Projection::operator()(Graph& graph, const ParameterSet& parameters, const Var& x) const {
    const Var y = conv(graph, x, parameters.var(graph, weight_), parameters.var(graph, bias_),
                       {.groups = 1, .epsilon = norm_epsilon});
    return group_norm(graph, y, parameters.var(graph, gamma_), parameters.var(graph, beta_), 1, norm_epsilon, 1.0);
}

}  // namespace cover
