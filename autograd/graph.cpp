#include "autograd/graph.h"

#include <cstring>

#include "kernels/elementwise.h"

namespace cover {

Graph::Graph(Stream& stream, int spatial_dims, Retention retention)
    : stream_(stream), spatial_dims_(spatial_dims), retention_(retention) {
    require(spatial_dims == 2 || spatial_dims == 3, ErrorKind::internal, "[graph] images have 2 or 3 axes, got ",
            spatial_dims);
}

Grid Graph::grid_of(const Shape& activation) const {
    require(activation.rank() == 5, ErrorKind::internal, "[graph] an activation is (N,D,H,W,C), got ",
            activation.to_string());
    return {spatial_dims_, activation[1], activation[2], activation[3]};
}

Tensor Graph::value(const Var& var) {
    if (!var.pending) return var.value;
    PendingValue& pending = *var.pending;
    if (!pending.made.defined()) pending.made = pending.make(stream_);
    // Nothing will be asked of the parts any more: whoever reads the value next reads what was made.
    if (retention_ == Retention::nothing)
        pending.parts = {{pending.made, {}, {}, {}, {}, {.channels = pending.shape[4]}}};
    return pending.made;
}

Var Graph::detached(Var var) const {
    var.node = -1;
    return var;
}

bool Graph::fuses(DType dtype) const { return retention_ != Retention::values && fuses_convs(dtype, stream_); }

Var Graph::leaf(Tensor value, Tensor gradient, std::string name) {
    if (retention_ == Retention::nothing) return constant(std::move(value));
    require(value.shape() == gradient.shape() && value.dtype() == gradient.dtype(), ErrorKind::internal,
            "[graph] a leaf ", value.shape().to_string(), " has a gradient of another shape or type");
    tape_.push_back({"leaf", std::move(name), value.shape(), value.dtype(), std::move(gradient), true, {}});
    return {std::move(value), static_cast<int>(tape_.size()) - 1, nullptr};
}

bool Graph::records(std::initializer_list<const Var*> inputs) {
    bool wanted = false;
    for (const Var* input : inputs) wanted = wanted || input->wants_gradient();
    if (retention_ == Retention::nothing || !wanted) return false;
    for (const Var* input : inputs)
        if (input->node >= 0 && node_of(*input).leaf && !node_of(*input).layer.empty()) {
            last_layer_ = node_of(*input).layer;
            break;
        }
    return true;
}

int Graph::append(const char* op, const Shape& shape, DType dtype, Backward backward) {
    tape_.push_back({op, last_layer_, shape, dtype, {}, false, std::move(backward)});
    return static_cast<int>(tape_.size()) - 1;
}

Var Graph::record(const char* op, Tensor value, std::initializer_list<const Var*> inputs, Backward backward) {
    if (!records(inputs)) return constant(std::move(value));
    if (observer_) observer_({op, last_layer_, false, value});
    const int node = append(op, value.shape(), value.dtype(), std::move(backward));
    return {std::move(value), node, nullptr};
}

Var Graph::record_pending(const char* op, const Shape& shape, std::vector<PendingPart> parts,
                          std::initializer_list<const Var*> inputs, Backward backward) {
    Var var{{}, -1, nullptr, std::make_shared<PendingValue>(PendingValue{spatial_dims_, shape, std::move(parts)})};
    if (!records(inputs)) return var;
    if (observer_) observer_({op, last_layer_, false, this->value(var)});
    var.node = append(op, var.shape(), var.dtype(), std::move(backward));
    return var;
}

Var Graph::with_recipe(Var var, Recipe recipe) const {
    if (retention_ == Retention::recipes && var.wants_gradient())
        var.recipe = std::make_shared<const Recipe>(std::move(recipe));
    return var;
}

Graph::Node& Graph::node_of(const Var& var) {
    require(var.node >= 0 && var.node < static_cast<int>(tape_.size()), ErrorKind::internal,
            "[graph] a constant has no gradient");
    return tape_[static_cast<std::size_t>(var.node)];
}

void Graph::accumulate(const Var& var, Tensor gradient) {
    if (!var.wants_gradient()) return;
    Node& node = node_of(var);
    require(gradient.shape() == node.shape && gradient.dtype() == node.dtype, ErrorKind::internal, "[graph] '", node.op,
            "' is ", node.shape.to_string(), " of ", name_of(node.dtype), " but was given a gradient of ",
            gradient.shape().to_string(), " of ", name_of(gradient.dtype()));
    if (!node.gradient.defined()) {
        node.gradient = std::move(gradient);
        return;
    }
    const ElementwiseParams params{.count = gradient.count()};
    // A gradient that somebody else holds as well must not change under them.
    if (node.leaf || node.gradient.unique()) {
        add(node.gradient.view(), node.gradient.const_view(), gradient.const_view(), params, stream_);
    } else {
        Tensor sum = Tensor::empty(node.shape, node.dtype, gradient.device());
        add(sum.view(), node.gradient.const_view(), gradient.const_view(), params, stream_);
        node.gradient = std::move(sum);
    }
}

void Graph::accumulate_slice(const Var& var, std::int64_t offset, const Tensor& gradient) {
    if (!var.wants_gradient()) return;
    Node& node = node_of(var);
    if (!node.gradient.defined())
        node.gradient = Tensor::zeros(node.shape, node.dtype, gradient.device());
    else if (!node.leaf && !node.gradient.unique())
        node.gradient = node.gradient.clone();
    Tensor part = node.gradient.slice(offset, gradient.shape());
    add(part.view(), part.const_view(), gradient.const_view(), {.count = gradient.count()}, stream_);
}

Tensor Graph::gradient_of_leaf(const Var& var) {
    Node& node = node_of(var);
    require(node.leaf, ErrorKind::internal, "[graph] '", node.op, "' is not a leaf");
    return node.gradient;
}

void Graph::backward(const Var& output) {
    Tensor one = Tensor::empty(output.shape(), output.dtype(), output.device());
    require(one.count() == 1, ErrorKind::internal, "[graph] backward starts from a scalar, got ",
            one.shape().to_string());
    one.fill(1);
    backward(output, std::move(one));
}

void Graph::backward(const Var& output, Tensor cotangent) {
    accumulate(output, std::move(cotangent));
    for (auto it = tape_.rbegin(); it != tape_.rend(); ++it) {
        if (it->leaf) continue;
        if (observer_ && it->gradient.defined()) observer_({it->op, it->layer, true, it->gradient});
        if (it->backward && it->gradient.defined()) it->backward(*this, it->gradient);
        it->backward = nullptr;
        it->gradient = Tensor();
    }
}

}  // namespace cover
