#include "kernels/conv.h"

#include "autograd/ops.h"

namespace cover {
namespace {

// As the fused kernels read x: its parts, or the whole of a tensor.
std::vector<PendingPart> parts_of(const Var& x) {
    if (x.pending) return x.pending->parts;
    return {{x.value, {}, {}, {}, {}, {.channels = x.shape()[4]}}};
}

PendingInput input_of(const std::vector<PendingPart>& parts) {
    PendingInput input;
    for (std::size_t i = 0; i < parts.size(); ++i) input.parts[i] = parts[i].views();
    return input;
}

Var fused_conv(Graph& graph, const Var& x, const Var& weight, const Var& bias, const FusedConvParams& params) {
    const std::vector<PendingPart> parts = parts_of(x);
    const Shape& s = x.shape();
    Tensor y = Tensor::empty({s[0], s[1], s[2], s[3], params.conv.c_out}, x.dtype(), x.device());
    auto statistics = std::make_shared<NormStatistics>();
    statistics->epsilon = params.epsilon;
    View mean{}, rstd{};
    if (params.groups > 0) {
        statistics->mean = Tensor::empty({s[0], params.groups}, real_type(x.dtype()), x.device());
        statistics->rstd = Tensor::empty({s[0], params.groups}, real_type(x.dtype()), x.device());
        mean = statistics->mean.view();
        rstd = statistics->rstd.view();
    }
    fused_conv(y.view(), mean, rstd, input_of(parts), weight.value.view(), bias.value.view(), params, graph.stream());

    // The gradient of a joined input goes to what was joined, and is never whole.
    const std::vector<int> nodes = x.pending ? x.pending->nodes : std::vector<int>();
    const auto data_gradient = [=, s = s, place = x.place()](Graph& g, const Tensor& dy) {
        const auto gradient = [&](std::int64_t channels) {
            return Tensor::empty({s[0], s[1], s[2], s[3], channels}, dy.dtype(), dy.device());
        };
        if (nodes.empty()) {
            Tensor dx = gradient(s[4]);
            conv_backward_data(dx.view(), dy.view(), weight.value.view(), params.conv, g.stream());
            return g.accumulate(place, std::move(dx));
        }
        Tensor first = gradient(params.parts[0].channels), second = gradient(params.parts[1].channels);
        fused_conv_backward_data(first.view(), second.view(), dy.view(), weight.value.view(), params, g.stream());
        g.accumulate({{}, nodes[0], nullptr}, std::move(first));
        g.accumulate({{}, nodes[1], nullptr}, std::move(second));
    };
    Var result = graph.record(
        "conv", std::move(y), {&x, &weight, &bias}, [=, wanted = x.wants_gradient()](Graph& g, const Tensor& dy) {
            if (weight.wants_gradient())
                fused_conv_backward_weight(g.gradient_of_leaf(weight).view(), g.gradient_of_leaf(bias).view(),
                                           dy.view(), input_of(parts), params, g.stream());
            if (wanted) data_gradient(g, dy);
        });
    if (params.groups > 0) result.statistics = std::move(statistics);
    return result;
}

}  // namespace

Var conv(Graph& graph, const Var& x, const Var& weight, const Var& bias, NormAhead norm) {
    const Shape &w = weight.shape(), &s = x.shape();
    require(w.rank() == 5 && s.rank() == 5 && w[3] == s[4], ErrorKind::internal, "[conv] weight ", w.to_string(),
            " does not fit an input ", s.to_string());
    const ConvParams params{
        .n = s[0], .grid = graph.grid_of(s), .c_in = w[3], .c_out = w[4], .kernel = static_cast<int>(w[2])};
    if (graph.fuses(x.dtype()) && (x.pending || (norm.groups > 0 && !x.recipe))) {
        FusedConvParams fused{.conv = params, .parts = {}, .groups = norm.groups, .epsilon = norm.epsilon};
        const std::vector<PendingPart> parts = parts_of(x);
        for (std::size_t i = 0; i < parts.size(); ++i) fused.parts[i] = parts[i].params;
        if (can_fuse_conv(fused, x.dtype(), graph.stream())) return fused_conv(graph, x, weight, bias, fused);
    }
    const Tensor input = graph.value(x);
    Tensor y = Tensor::empty({s[0], s[1], s[2], s[3], w[4]}, input.dtype(), input.device());
    conv(y.view(), input.view(), weight.value.view(), bias.value.view(), params, graph.stream());

    return graph.record("conv", std::move(y), {&x, &weight, &bias}, [=, x = Kept(x)](Graph& g, const Tensor& dy) {
        if (weight.wants_gradient())
            conv_backward_weight(g.gradient_of_leaf(weight).view(), g.gradient_of_leaf(bias).view(), dy.view(),
                                 x.value(g.stream()).const_view(), params, g.stream());
        if (x.wants_gradient()) {
            Tensor dx = Tensor::empty(x.shape(), dy.dtype(), dy.device());
            conv_backward_data(dx.view(), dy.view(), weight.value.view(), params, g.stream());
            g.accumulate(x.place(), std::move(dx));
        }
    });
}

}  // namespace cover
