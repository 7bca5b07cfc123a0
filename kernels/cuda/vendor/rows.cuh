// The rows of cuDNN and cuBLAS: weights brought into their layout, the plug-in's function, the bias. Taken by name
// only.
//
// They take an empty bias or dbias, and then leave that part out: cuDNN's and cuBLAS's own time, to be compared with.
// In bfloat16 they round twice where cuDNN's output is not yet the row's: y before the bias is added, and a weight
// gradient that cuDNN gives in bfloat16 alone.
#pragma once

#include "kernels/conv.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vendor/layout.cuh"
#include "kernels/vendor/plugin.h"

namespace cover::cuda::COVER_CUDA_BUILD::vendor {

using cover::vendor::Convolution, cover::vendor::Element, cover::vendor::Pass, cover::vendor::Text;
using Vendor = cover::vendor::Library;

// What a row is: whose it is, and in which precision it works.
template <Vendor vendor_library, DType dtype, Math math_mode>
struct Row {
    static constexpr Vendor library = vendor_library;
    static constexpr DType activations = dtype;
    static constexpr Math math = math_mode;
    using Activation = std::conditional_t<dtype == DType::bfloat16, bfloat16, float>;
};

template <class Row>
Convolution describe(Pass pass, const ConvParams& p) {
    return {.pass = static_cast<std::int64_t>(pass),
            .spatial_dims = p.grid.spatial_dims,
            .kernel = p.kernel,
            .n = p.n,
            .d = p.grid.d,
            .h = p.grid.h,
            .w = p.grid.w,
            .c_in = p.c_in,
            .c_out = p.c_out,
            .element =
                static_cast<std::int64_t>(Row::activations == DType::bfloat16 ? Element::bfloat16 : Element::float32),
            .tf32 = Row::math == Math::tf32};
}

template <class Row, Pass pass>
std::string why_not(const ConvParams& p, const DeviceFacts& facts) {
    if (facts.compute_capability == 0) return "[vendor] vendor_cudnn and vendor_cublas need a CUDA device";
    const cover::vendor::Plugin& plugin = cover::vendor::plugin();
    if (!plugin.functions) return plugin.where;
    const Convolution convolution = describe<Row>(pass, p);
    Element weight{};
    Text text;
    return plugin.functions->workspace(Row::library, &convolution, &weight, &text) < 0 ? text.characters : "";
}

template <class Row, Pass pass>
bool can_run(const ConvParams& p, const DeviceFacts& facts) {
    return why_not<Row, pass>(p, facts).empty();
}

// The plug-in's part of a row: its workspace, then the pass. `weight` lies as the plug-in asks for it.
class Call {
public:
    template <class Row>
    static Call of(Pass pass, const ConvParams& p) {
        Call call;
        call.library_ = Row::library;
        call.convolution_ = describe<Row>(pass, p);
        require(cover::vendor::plugin().functions != nullptr, ErrorKind::device, cover::vendor::plugin().where);
        Text text;
        call.workspace_bytes_ =
            cover::vendor::plugin().functions->workspace(Row::library, &call.convolution_, &call.weight_, &text);
        require(call.workspace_bytes_ >= 0, ErrorKind::device, text.characters);
        return call;
    }
    Element weight() const { return weight_; }

    void run(const void* x, const void* weight, const void* y, const Stream& stream) const {
        Workspace<unsigned char> workspace(workspace_bytes_, stream);
        const cover::vendor::Buffers buffers{const_cast<void*>(x), const_cast<void*>(weight), const_cast<void*>(y),
                                             workspace.data(),     workspace_bytes_,          stream.native,
                                             device_synchronise};
        Text text;
        require(cover::vendor::plugin().functions->run(library_, &convolution_, &buffers, &text), ErrorKind::device,
                text.characters);
    }

private:
    Vendor library_{};
    Convolution convolution_;
    Element weight_{};
    std::int64_t workspace_bytes_ = 0;
};

// Calls body(pointer) with the weights in the row's type and the library's layout.
template <class Row, class Body>
void with_weight(ConstView weight, const ConvParams& p, Stream& stream, const Body& body) {
    using T = typename Row::Activation;
    const auto* const ours = weight.as<float>();
    if (Row::library == Vendor::cublas && std::is_same_v<T, float>) return body(ours);
    Workspace<T> theirs(p.weight_count(), stream);
    if (Row::library == Vendor::cublas)
        launch(stream, "vendor round_weight", blocks_for(p.weight_count()), threads_per_block, 0, round_weight<T>,
               theirs.data(), ours, p.weight_count());
    else
        launch_pack_weight(theirs.data(), ours, p.c_in, p.c_out, p.taps(), stream);
    body(theirs.data());
}

template <class Row>
void run_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    using T = typename Row::Activation;
    const Call call = Call::of<Row>(Pass::forward, p);
    with_weight<Row>(weight, p, stream, [&](const void* theirs) { call.run(x.as<T>(), theirs, y.as<T>(), stream); });
    if (bias) launch_add_bias(y.as<T>(), bias.as<float>(), p.n * p.grid.pixels(), p.c_out, stream);
}

template <class Row>
void run_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    using T = typename Row::Activation;
    const Call call = Call::of<Row>(Pass::backward_data, p);
    with_weight<Row>(weight, p, stream, [&](const void* theirs) { call.run(dx.as<T>(), theirs, dy.as<T>(), stream); });
}

template <class Row>
void run_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& p, Stream& stream) {
    using T = typename Row::Activation;
    const Call call = Call::of<Row>(Pass::backward_weight, p);
    const auto through = [&]<class Gradient>(Gradient) {
        Workspace<Gradient> theirs(p.weight_count(), stream);
        call.run(x.as<T>(), theirs.data(), dy.as<T>(), stream);
        launch_add_packed_weight(dweight.as<float>(), theirs.data(), p.c_in, p.c_out, p.taps(), stream);
    };
    if (Row::library == Vendor::cublas)
        call.run(x.as<T>(), dweight.as<float>(), dy.as<T>(), stream);  // which adds
    else if (call.weight() == Element::bfloat16)
        through(bfloat16{});
    else
        through(float{});
    if (dbias) launch_bias_gradient(dbias.as<float>(), dy.as<T>(), p.n * p.grid.pixels(), p.c_out, stream);
}

template <class Variant, class Row, Pass pass, class Run>
constexpr Variant row(Run* run) {
    return {.name = Row::library == Vendor::cudnn ? "vendor_cudnn" : "vendor_cublas",
            .device = this_device,
            .dtype = Row::activations,
            .math = Row::math,
            .can_run = can_run<Row, pass>,
            .run = run,
            .by_name_only = true,
            .why_not = why_not<Row, pass>};
}

template <Vendor library>
using Exact = Row<library, DType::float32, Math::exact>;
template <Vendor library>
using Tf32 = Row<library, DType::float32, Math::tf32>;
template <Vendor library>
using Narrow = Row<library, DType::bfloat16, Math::exact>;

template <class Row>
constexpr ConvVariant forward() {
    return row<ConvVariant, Row, Pass::forward>(run_forward<Row>);
}
template <class Row>
constexpr ConvBackwardDataVariant backward_data() {
    return row<ConvBackwardDataVariant, Row, Pass::backward_data>(run_backward_data<Row>);
}
template <class Row>
constexpr ConvBackwardWeightVariant backward_weight() {
    return row<ConvBackwardWeightVariant, Row, Pass::backward_weight>(run_backward_weight<Row>);
}

inline std::span<const ConvVariant> forward_rows() {
    static constexpr ConvVariant rows[] = {forward<Exact<Vendor::cudnn>>(),  forward<Tf32<Vendor::cudnn>>(),
                                           forward<Narrow<Vendor::cudnn>>(), forward<Exact<Vendor::cublas>>(),
                                           forward<Tf32<Vendor::cublas>>(),  forward<Narrow<Vendor::cublas>>()};
    return rows;
}
inline std::span<const ConvBackwardDataVariant> backward_data_rows() {
    static constexpr ConvBackwardDataVariant rows[] = {
        backward_data<Exact<Vendor::cudnn>>(),  backward_data<Tf32<Vendor::cudnn>>(),
        backward_data<Narrow<Vendor::cudnn>>(), backward_data<Exact<Vendor::cublas>>(),
        backward_data<Tf32<Vendor::cublas>>(),  backward_data<Narrow<Vendor::cublas>>()};
    return rows;
}
inline std::span<const ConvBackwardWeightVariant> backward_weight_rows() {
    static constexpr ConvBackwardWeightVariant rows[] = {
        backward_weight<Exact<Vendor::cudnn>>(),  backward_weight<Tf32<Vendor::cudnn>>(),
        backward_weight<Narrow<Vendor::cudnn>>(), backward_weight<Exact<Vendor::cublas>>(),
        backward_weight<Tf32<Vendor::cublas>>(),  backward_weight<Narrow<Vendor::cublas>>()};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::vendor
