// Define-by-run reverse mode. Ops append a node to a tape as they run; backward() walks the tape from the end, hands
// each node its gradient and drops what it no longer needs. The tape is the topological order: nothing is sorted, and
// the order of every sum of gradients is the order in which the ops were called.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/var.h"
#include "core/shape.h"
#include "kernels/variant.h"

namespace cover {

class Graph {
public:
    // Called once with the gradient of the node's output. It adds to its inputs with accumulate() or, for kernels that
    // accumulate themselves, through gradient().
    using Backward = std::function<void(Graph&, const Tensor& doutput)>;

    // nothing: forward values only. recipes: a backward makes cheap values again from others. values: it keeps each
    // tensor that it needs, the plain twin of recipes, with the same bits where nothing is left pending.
    enum class Retention { nothing, recipes, values };

    // spatial_dims: 2 or 3, of every activation in this graph.
    Graph(Stream& stream, int spatial_dims, Retention retention = Retention::recipes);

    Stream& stream() { return stream_; }
    int spatial_dims() const { return spatial_dims_; }
    // Of an activation (N,D,H,W,C).
    Grid grid_of(const Shape& activation) const;
    Grid grid_of(const Tensor& activation) const { return grid_of(activation.shape()); }

    // The tensor of a value; one that is pending is made, and kept while somebody holds the Var.
    Tensor value(const Var& var);
    // The same value without a gradient.
    Var detached(Var var) const;

    Var constant(Tensor value) const { return {std::move(value), -1, nullptr}; }
    // A leaf whose gradient is added into `gradient`, which has the same shape and type. name: for the observer.
    Var leaf(Tensor value, Tensor gradient, std::string name = {});

    // Appends a node, unless nothing is recorded or no input wants a gradient: then the value comes back as a constant,
    // and `backward` is dropped uncalled. Throws Error(internal) on an input whose node is beyond this graph's tape.
    Var record(const char* op, Tensor value, std::initializer_list<const Var*> inputs, Backward backward);

    // Whether values of this type may be left pending: the stream's device reads them so.
    bool fuses(DType dtype) const;
    // record() for a value that is left pending.
    Var record_pending(const char* op, const Shape& shape, std::vector<PendingPart> parts,
                       std::initializer_list<const Var*> inputs, Backward backward);

    // Makes the value of `var`, which this graph has just recorded, one that a later op need not keep.
    Var with_recipe(Var var, Recipe recipe) const;

    // dvar += gradient. Refuses a wrong shape or type with a sentence. The tensor is taken over where it is the first.
    void accumulate(const Var& var, Tensor gradient);
    // The same for elements [offset, offset + gradient.count()) of a larger variable.
    void accumulate_slice(const Var& var, std::int64_t offset, const Tensor& gradient);
    // The buffer of a leaf, for kernels that add into it.
    Tensor gradient_of_leaf(const Var& var);

    // Seeds the gradient of `output` with `cotangent` (a scalar one by default) and walks back. Once per graph.
    void backward(const Var& output);
    void backward(const Var& output, Tensor cotangent);

    // What an observer is shown: each value as it is recorded, and the gradient of each as backward() comes to it.
    // layer: name of the op's first named leaf, or else of the last op before that had one.
    struct Seen {
        const char* op;
        const std::string& layer;
        bool gradient;
        const Tensor& tensor;
    };
    using Observer = std::function<void(const Seen&)>;
    // For diagnosis; before the first op.
    void observe(Observer observer) { observer_ = std::move(observer); }

private:
    struct Node {
        const char* op;
        std::string layer;
        Shape shape;
        DType dtype;
        Tensor gradient;
        bool leaf = false;
        Backward backward;
    };

    Node& node_of(const Var& var);
    bool records(std::initializer_list<const Var*> inputs);
    int append(const char* op, const Shape& shape, DType dtype, Backward backward);

    Stream& stream_;
    int spatial_dims_;
    Retention retention_;
    std::vector<Node> tape_;
    Observer observer_;
    std::string last_layer_;
};

}  // namespace cover
