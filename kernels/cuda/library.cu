#include "kernels/cuda/device.h"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {

const Library& library() {
    static const Library instance{.rows = {.conv = conv_rows(),
                                           .conv_backward_data = conv_backward_data_rows(),
                                           .conv_backward_weight = conv_backward_weight_rows(),
                                           .group_norm = group_norm_rows(),
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
                                           .concat = concat_rows(),
                                           .split = split_rows(),
                                           .sum_of_squares = sum_of_squares_rows(),
                                           .adam = adam_rows(),
                                           .sgd = sgd_rows()},
                                  .open = open_device,
                                  .stream = device_stream};
    return instance;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
