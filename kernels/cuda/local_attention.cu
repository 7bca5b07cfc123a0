// MoV: a ladder of rungs, each in a file of its own. In all of them the softmax is taken as the logits come, and the
// backward pass is two gathers: one over a query's window, one over the queries whose windows hold a key.
#include "kernels/cuda/local_attention/halo.cuh"
#include "kernels/cuda/local_attention/naive.cuh"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {

std::span<const LocalAttentionVariant> local_attention_rows() {
    static constexpr LocalAttentionVariant rows[] = {{"cuda_1_naive", this_device, DType::float32, Math::exact,
                                                      always<LocalAttentionParams>, local_attention::naive::run},
                                                     {"cuda_2_halo", this_device, DType::float32, Math::exact,
                                                      local_attention::halo::can_run, local_attention::halo::run}};
    return rows;
}
std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows() {
    static constexpr LocalAttentionBackwardVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<LocalAttentionParams>,
         local_attention::naive::run_backward},
        {"cuda_2_halo", this_device, DType::float32, Math::exact, local_attention::halo::can_run_backward,
         local_attention::halo::run_backward}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
