// CPU rows of the convolutions; conv_forward.cpp and conv_weight.cpp hold the drivers.
#include "kernels/conv.h"

#include "kernels/cpu/conv_driver.h"
#include "kernels/cpu/conv_input.h"

namespace cover::cpu {
namespace {

template <const ConvKernels& kernels>
void run_forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& params, Stream& stream) {
    conv_forward(kernels, {y.as<float>(), params.c_out}, StoredInput(x.as<float>(), params.c_in), weight.as<float>(),
                 bias.as<float>(), false, params, stream);
}

template <const ConvKernels& kernels>
void run_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& params, Stream& stream) {
    conv_forward(kernels, {dx.as<float>(), params.c_in}, StoredInput(dy.as<float>(), params.c_out), weight.as<float>(),
                 nullptr, true, params, stream);
}

template <const ConvKernels& kernels>
void run_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& params,
                         Stream& stream) {
    conv_weight_gradient(kernels, dweight.as<float>(), dbias.as<float>(), dy.as<float>(),
                         StoredInput(x.as<float>(), params.c_in), params, stream);
}

constexpr ConvVariant forward_rows[] = {
    {"cpu_avx2", Device::cpu, DType::float32, Math::exact, needs_avx2<ConvParams>, run_forward<conv_kernels_avx2>},
    {"cpu_avx512", Device::cpu, DType::float32, Math::exact, needs_avx512<ConvParams>,
     run_forward<conv_kernels_avx512>},
};
constexpr ConvBackwardDataVariant data_rows[] = {
    {"cpu_avx2", Device::cpu, DType::float32, Math::exact, needs_avx2<ConvParams>,
     run_backward_data<conv_kernels_avx2>},
    {"cpu_avx512", Device::cpu, DType::float32, Math::exact, needs_avx512<ConvParams>,
     run_backward_data<conv_kernels_avx512>},
};
constexpr ConvBackwardWeightVariant weight_rows[] = {
    {"cpu_avx2", Device::cpu, DType::float32, Math::exact, needs_avx2<ConvParams>,
     run_backward_weight<conv_kernels_avx2>},
    {"cpu_avx512", Device::cpu, DType::float32, Math::exact, needs_avx512<ConvParams>,
     run_backward_weight<conv_kernels_avx512>},
};

}  // namespace

std::span<const ConvVariant> conv_rows() { return forward_rows; }
std::span<const ConvBackwardDataVariant> conv_backward_data_rows() { return data_rows; }
std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows() { return weight_rows; }

}  // namespace cover::cpu
