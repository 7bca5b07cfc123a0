#include "nn/module.h"

namespace cover {
namespace {

constexpr std::int64_t alignment = 16;  // elements: one cache line of float32

// Calls f(kernel layout index, file index) for every element of a convolution weight. Both layouts enumerate the taps
// in the same order, therefore a tap is one number here.
template <class F>
void for_conv_weight(const Shape& shape, F&& f) {
    const std::int64_t taps = shape[0] * shape[1] * shape[2], c_in = shape[3], c_out = shape[4];
    for (std::int64_t tap = 0; tap < taps; ++tap)
        for (std::int64_t i = 0; i < c_in; ++i)
            for (std::int64_t o = 0; o < c_out; ++o) f((tap * c_in + i) * c_out + o, (o * c_in + i) * taps + tap);
}

template <class F>
void with_real_type(DType dtype, F&& f) {
    if (dtype == DType::float64)
        f(double{});
    else
        f(float{});
}

}  // namespace

int ParameterSet::add(Parameter parameter) {
    require(!values_.defined(), ErrorKind::internal, "[parameters] ", parameter.name, " is declared after allocation");
    parameter.offset = flat_count_;
    flat_count_ += (parameter.shape.count() + alignment - 1) / alignment * alignment;
    list_.push_back(std::move(parameter));
    return static_cast<int>(list_.size()) - 1;
}

int ParameterSet::add_conv_weight(const std::string& name, std::int64_t c_in, std::int64_t c_out, int kernel) {
    const std::int64_t depth = spatial_dims_ == 2 ? 1 : kernel;
    Shape file_shape{c_out, c_in};
    if (spatial_dims_ == 3) file_shape.append(kernel);
    file_shape.append(kernel);
    file_shape.append(kernel);
    return add({.name = name,
                .kind = ParameterKind::conv_weight,
                .shape = {depth, kernel, kernel, c_in, c_out},
                .file_shape = file_shape,
                .fan_in = depth * kernel * kernel * c_in});
}

int ParameterSet::add_vector(const std::string& name, ParameterKind kind, std::int64_t channels, std::int64_t fan_in) {
    return add({.name = name, .kind = kind, .shape = {channels}, .file_shape = {channels}, .fan_in = fan_in});
}

void ParameterSet::allocate(DType dtype, Device device) {
    require(dtype != DType::bfloat16, ErrorKind::internal, "[parameters] master weights are float32 or float64");
    values_ = Tensor::zeros({flat_count_}, dtype, device);
    gradients_ = Tensor::zeros({flat_count_}, dtype, device);
}

std::int64_t ParameterSet::trained_count() const {
    std::int64_t count = 0;
    for (const Parameter& p : list_) count += p.shape.count();
    return count;
}

Tensor ParameterSet::value(int index) const {
    const Parameter& p = list_[static_cast<std::size_t>(index)];
    return values_.slice(p.offset, p.shape);
}

Tensor ParameterSet::gradient(int index) const {
    const Parameter& p = list_[static_cast<std::size_t>(index)];
    return gradients_.slice(p.offset, p.shape);
}

void ParameterSet::zero_gradients() { gradients_.clear(); }

Var ParameterSet::var(Graph& graph, int index) const {
    return graph.leaf(value(index), gradient(index), list_[static_cast<std::size_t>(index)].name);
}

Tensor ParameterSet::to_file(const Tensor& flat, int index) const {
    const Parameter& p = list_[static_cast<std::size_t>(index)];
    const Tensor source = flat.slice(p.offset, p.shape).to(Device::cpu);
    Tensor file = Tensor::empty(p.file_shape, flat.dtype());
    if (p.kind != ParameterKind::conv_weight) {
        file.copy_from(source);
        return file;
    }
    with_real_type(flat.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* from = source.data<T>();
        T* to = file.data<T>();
        for_conv_weight(p.shape, [&](std::int64_t kernel, std::int64_t in_file) { to[in_file] = from[kernel]; });
    });
    return file;
}

void ParameterSet::from_file(Tensor& flat, int index, const Tensor& file) const {
    const Parameter& p = list_[static_cast<std::size_t>(index)];
    require(file.shape() == p.file_shape, ErrorKind::data, "[weights] ", p.name, " has shape ",
            file.shape().to_string(), " but this model needs ", p.file_shape.to_string());
    const Tensor source = file.dtype() == flat.dtype() ? file : file.converted(flat.dtype());
    Tensor target = flat.slice(p.offset, p.shape);
    if (p.kind != ParameterKind::conv_weight) {
        target.copy_from(source);
        return;
    }
    Tensor kernels = Tensor::empty(p.shape, flat.dtype());
    with_real_type(flat.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* from = source.data<T>();
        T* to = kernels.data<T>();
        for_conv_weight(p.shape, [&](std::int64_t kernel, std::int64_t in_file) { to[kernel] = from[in_file]; });
    });
    target.copy_from(kernels);
}

}  // namespace cover
