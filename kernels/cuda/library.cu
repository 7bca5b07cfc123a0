#include "kernels/cuda/device.h"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {

const Library& library() {
    static const Library instance{.rows = {.conv = conv_rows(),
                                           .conv_backward_data = conv_backward_data_rows(),
                                           .conv_backward_weight = conv_backward_weight_rows(),
                                           .vendor_conv = vendor_conv_rows(),
                                           .vendor_conv_backward_data = vendor_conv_backward_data_rows(),
                                           .vendor_conv_backward_weight = vendor_conv_backward_weight_rows(),
                                           .fused_conv = fused_conv_rows(),
                                           .fused_conv_backward_data = fused_conv_backward_data_rows(),
                                           .fused_conv_backward_weight = fused_conv_backward_weight_rows(),
                                           .group_norm = group_norm_rows(),
                                           .group_norm_statistics = group_norm_statistics_rows(),
                                           .group_norm_apply = group_norm_apply_rows(),
                                           .group_norm_backward = group_norm_backward_rows(),
                                           .max_pool = max_pool_rows(),
                                           .max_pool_backward = max_pool_backward_rows(),
                                           .upsample = upsample_rows(),
                                           .upsample_backward = upsample_backward_rows(),
                                           .warp = warp_rows(),
                                           .warp_backward = warp_backward_rows(),
                                           .local_attention = local_attention_rows(),
                                           .local_attention_backward = local_attention_backward_rows(),
                                           .masked_l1 = masked_l1_rows(),
                                           .masked_l1_backward = masked_l1_backward_rows(),
                                           .masked_cosine = masked_cosine_rows(),
                                           .masked_cosine_backward = masked_cosine_backward_rows(),
                                           .add = add_rows(),
                                           .scale = scale_rows(),
                                           .cast = cast_rows(),
                                           .concat = concat_rows(),
                                           .split = split_rows(),
                                           .sum_of_squares = sum_of_squares_rows(),
                                           .optimizer_factors = optimizer_factors_rows(),
                                           .adam = adam_rows(),
                                           .sgd = sgd_rows(),
                                           .cut_views = cut_views_rows(),
                                           .uniform_noise = uniform_noise_rows(),
                                           .add_noise = add_noise_rows(),
                                           .gaussian_blur = gaussian_blur_rows(),
                                           .change_contrast = change_contrast_rows(),
                                           .fill_blocks = fill_blocks_rows()},
                                  .open = open_device,
                                  .stream = device_stream,
                                  .wait = device_wait,
                                  .recorder = device_recorder(),
                                  .ranges = device_ranges(),
                                  .mark = mark,
                                  .seconds_between = seconds_between,
                                  .roof = queue_roof};
    return instance;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
