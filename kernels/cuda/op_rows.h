// The row lists that the .cu files of one build define, each beside its kernels; library.cu gathers them.
#pragma once

#include "kernels/cuda/rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

std::span<const ConvVariant> conv_rows();
std::span<const ConvBackwardDataVariant> conv_backward_data_rows();
std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows();
std::span<const ConvVariant> vendor_conv_rows();
std::span<const ConvBackwardDataVariant> vendor_conv_backward_data_rows();
std::span<const ConvBackwardWeightVariant> vendor_conv_backward_weight_rows();
std::span<const FusedConvVariant> fused_conv_rows();
std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows();
std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows();
std::span<const GroupNormVariant> group_norm_rows();
std::span<const GroupNormStatisticsVariant> group_norm_statistics_rows();
std::span<const GroupNormApplyVariant> group_norm_apply_rows();
std::span<const GroupNormBackwardVariant> group_norm_backward_rows();
std::span<const MaxPoolVariant> max_pool_rows();
std::span<const MaxPoolBackwardVariant> max_pool_backward_rows();
std::span<const UpsampleVariant> upsample_rows();
std::span<const UpsampleBackwardVariant> upsample_backward_rows();
std::span<const WarpVariant> warp_rows();
std::span<const WarpBackwardVariant> warp_backward_rows();
std::span<const LocalAttentionVariant> local_attention_rows();
std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows();
std::span<const MaskedL1Variant> masked_l1_rows();
std::span<const MaskedL1BackwardVariant> masked_l1_backward_rows();
std::span<const MaskedCosineVariant> masked_cosine_rows();
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows();
std::span<const AddVariant> add_rows();
std::span<const ScaleVariant> scale_rows();
std::span<const CastVariant> cast_rows();
std::span<const ConcatVariant> concat_rows();
std::span<const SplitVariant> split_rows();
std::span<const SumOfSquaresVariant> sum_of_squares_rows();
std::span<const OptimizerFactorsVariant> optimizer_factors_rows();
std::span<const AdamVariant> adam_rows();
std::span<const SgdVariant> sgd_rows();
std::span<const CutViewsVariant> cut_views_rows();
std::span<const UniformNoiseVariant> uniform_noise_rows();
std::span<const AddNoiseVariant> add_noise_rows();
std::span<const GaussianBlurVariant> gaussian_blur_rows();
std::span<const ChangeContrastVariant> change_contrast_rows();
std::span<const FillBlocksVariant> fill_blocks_rows();
double queue_roof(Roof kind, std::int64_t size, Stream& stream);

}  // namespace cover::cuda::COVER_CUDA_BUILD
