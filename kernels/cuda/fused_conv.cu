#if defined(__CUDACC__)
#include "kernels/cuda/conv/wgmma_fused_rows.cuh"
#endif
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {

std::span<const FusedConvVariant> fused_conv_rows() {
#if defined(__CUDACC__)  // the emulation knows neither wgmma nor the TMA
    static constexpr FusedConvVariant rows[] = {
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma_fused, conv::run_wgmma_fused},
    };
    return rows;
#else
    return {};
#endif
}
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows() {
#if defined(__CUDACC__)
    static constexpr FusedConvBackwardWeightVariant rows[] = {
        {"cuda_6_wgmma", this_device, DType::bfloat16, Math::exact, conv::fits_wgmma_fused_weight,
         conv::run_wgmma_fused_weight},
    };
    return rows;
#else
    return {};
#endif
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
