// The trained tensors of a model: one flat buffer of values and one of gradients, in the order of the weights file,
// each tensor aligned in them. Clipping, the optimizer and checkpoints are single passes, as an all-reduce would be.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/graph.h"
#include "nn/safetensors.h"

namespace cover {

enum class ParameterKind : std::uint8_t { conv_weight, conv_bias, norm_weight, norm_bias };

struct Parameter {
    std::string name;  // the authors' name, "backbone.inc.double_conv.0.weight"
    ParameterKind kind;
    Shape shape;       // as kernels read it: (kD,kH,kW,Cin,Cout) or (C)
    Shape file_shape;  // the authors' layout: (Cout,Cin,[kD,]kH,kW) or (C)
    std::int64_t fan_in = 1;
    std::int64_t offset = 0;  // elements from the start of the flat buffers
};

class ParameterSet {
public:
    explicit ParameterSet(int spatial_dims) : spatial_dims_(spatial_dims) {}

    // Declared while the model is built, before allocate(). Each returns the parameter's index.
    int add_conv_weight(const std::string& name, std::int64_t c_in, std::int64_t c_out, int kernel);
    int add_vector(const std::string& name, ParameterKind kind, std::int64_t channels, std::int64_t fan_in = 1);
    // Flat buffers, zero-filled.
    void allocate(DType dtype, Device device = Device::cpu);

    int spatial_dims() const { return spatial_dims_; }
    const std::vector<Parameter>& list() const { return list_; }
    // Elements of all tensors, padding not counted.
    std::int64_t trained_count() const;

    Tensor& values() { return values_; }
    const Tensor& values() const { return values_; }
    Tensor& gradients() { return gradients_; }
    const Tensor& gradients() const { return gradients_; }
    Tensor value(int index) const;
    Tensor gradient(int index) const;
    void zero_gradients();

    // The parameter as a leaf of the graph.
    Var var(Graph& graph, int index) const;

    // One tensor between the kernels' and the authors' layout, both in the dtype of `flat`; the file's side is the
    // host's.
    Tensor to_file(const Tensor& flat, int index) const;
    void from_file(Tensor& flat, int index, const Tensor& file) const;

private:
    int add(Parameter parameter);

    int spatial_dims_;
    std::vector<Parameter> list_;
    std::int64_t flat_count_ = 0;
    Tensor values_, gradients_;
};

}  // namespace cover
