#include "kernels/cpu/fused_conv.h"

#include "kernels/cpu/conv_driver.h"
#include "kernels/cpu/conv_input.h"
#include "kernels/cpu/conv_statistics.h"

namespace cover::cpu {
namespace {

constexpr FusedConvKernels kernels_avx2{conv_kernels_avx2, avx2::conv_input_kernels, avx2::norm_kernels,
                                        avx2::resize_kernels};
constexpr FusedConvKernels kernels_avx512{conv_kernels_avx512, avx512::conv_input_kernels, avx512::norm_kernels,
                                          avx512::resize_kernels};

// Calls body(the input as the drivers read it).
template <class Body>
void with_input(const FusedConvKernels& kernels, const PendingInput& input, const FusedConvParams& p,
                const Body& body) {
    if (p.any_pending())
        body(PendingConvInput(kernels.input, kernels.resize, input, p));
    else
        body(StoredInput(input.parts[0].x.as<float>(), p.conv.c_in));
}

}  // namespace

void fused_conv(const FusedConvKernels& kernels, View y, View mean, View rstd, const PendingInput& input,
                ConstView weight, ConstView bias, const FusedConvParams& params, Stream& stream) {
    StripMoments moments(kernels.norm, params.statistics());
    with_input(kernels, input, params, [&](const ConvInput& x) {
        conv_forward(kernels.conv, {y.as<float>(), params.conv.c_out}, x, weight.as<float>(), bias.as<float>(), false,
                     params.conv, stream, params.groups > 0 ? &moments : nullptr);
    });
    if (params.groups > 0) moments.finish(mean.as<float>(), rstd.as<float>(), stream);
}

void fused_conv_backward_data(const FusedConvKernels& kernels, View first, View second, ConstView dy, ConstView weight,
                              const FusedConvParams& params, Stream& stream) {
    conv_forward(
        kernels.conv, {first.as<float>(), params.parts[0].channels, second.as<float>(), params.parts[1].channels},
        StoredInput(dy.as<float>(), params.conv.c_out), weight.as<float>(), nullptr, true, params.conv, stream);
}

void fused_conv_backward_weight(const FusedConvKernels& kernels, View dweight, View dbias, ConstView dy,
                                const PendingInput& input, const FusedConvParams& params, Stream& stream) {
    with_input(kernels, input, params, [&](const ConvInput& x) {
        conv_weight_gradient(kernels.conv, dweight.as<float>(), dbias.as<float>(), dy.as<float>(), x, params.conv,
                             stream);
    });
}

std::span<const FusedConvVariant> fused_conv_rows() {
    return simd_rows<FusedConvVariant, FusedConvParams, FusedConvRun, fused_conv, kernels_avx2, kernels_avx512>();
}
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows() {
    static constexpr FusedConvBackwardDataVariant rows[] = {
        {"cpu_avx2", Device::cpu, DType::float32, Math::exact,
         [](const FusedConvParams& p, const DeviceFacts& facts) { return facts.avx2 && has_two_parts(p, facts); },
         WithKernels<fused_conv_backward_data, kernels_avx2, FusedConvBackwardDataRun>::run},
        {"cpu_avx512", Device::cpu, DType::float32, Math::exact,
         [](const FusedConvParams& p, const DeviceFacts& facts) { return facts.avx512 && has_two_parts(p, facts); },
         WithKernels<fused_conv_backward_data, kernels_avx512, FusedConvBackwardDataRun>::run},
    };
    return rows;
}
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows() {
    return simd_rows<FusedConvBackwardWeightVariant, FusedConvParams, FusedConvBackwardWeightRun,
                     fused_conv_backward_weight, kernels_avx2, kernels_avx512>();
}

}  // namespace cover::cpu
