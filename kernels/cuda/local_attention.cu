// MoV: a ladder of rungs, each in a file of its own. In all of them the softmax is taken as the logits come, and the
// backward pass is two gathers: one over a query's window, one over the queries whose windows hold a key.
#include "kernels/cuda/local_attention/halo.cuh"
#include "kernels/cuda/local_attention/naive.cuh"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {

std::span<const LocalAttentionVariant> local_attention_rows() {
    namespace la = local_attention;
    static constexpr LocalAttentionVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<LocalAttentionParams>, la::naive::run<float>},
        {"cuda_2_halo", this_device, DType::float32, Math::exact, la::halo::can_run<float>, la::halo::run<float>, true},
        {"cuda_1_naive", this_device, DType::bfloat16, Math::exact, always<LocalAttentionParams>,
         la::naive::run<bfloat16>},
        {"cuda_2_halo", this_device, DType::bfloat16, Math::exact, la::halo::can_run<bfloat16>, la::halo::run<bfloat16>,
         true}};
    return rows;
}
std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows() {
    namespace la = local_attention;
    static constexpr LocalAttentionBackwardVariant rows[] = {
        {"cuda_1_naive", this_device, DType::float32, Math::exact, always<LocalAttentionParams>,
         la::naive::run_backward<float>},
        {"cuda_2_halo", this_device, DType::float32, Math::exact, la::halo::can_run_backward<float>,
         la::halo::run_backward<float>, true},
        {"cuda_1_naive", this_device, DType::bfloat16, Math::exact, always<LocalAttentionParams>,
         la::naive::run_backward<bfloat16>},
        {"cuda_2_halo", this_device, DType::bfloat16, Math::exact, la::halo::can_run_backward<bfloat16>,
         la::halo::run_backward<bfloat16>, true}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
