#include "kernels/local_attention.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const LocalAttentionParams& params) {
    require_grid("local_attention", params.n, params.grid);
    require_positive("local_attention", "heads", params.heads);
    require_positive("local_attention", "head_dim", params.head_dim);
    require_positive("local_attention", "radius", params.radius);
}

std::span<const LocalAttentionVariant> local_attention_table() {
    static const auto table = cuda::with_cuda<LocalAttentionVariant>(
        {ref::local_attention_rows(), cpu::local_attention_rows()}, &cuda::Rows::local_attention);
    return table;
}

std::span<const LocalAttentionBackwardVariant> local_attention_backward_table() {
    static const auto table = cuda::with_cuda<LocalAttentionBackwardVariant>(
        {ref::local_attention_backward_rows(), cpu::local_attention_backward_rows()},
        &cuda::Rows::local_attention_backward);
    return table;
}

void local_attention(View y, ConstView q, ConstView k, const LocalAttentionParams& params, Stream& stream) {
    validate(params);
    require_view("local_attention", "y", y, real_type(q.dtype), params.y_count());
    require_view("local_attention", "q", q, q.dtype, params.q_count());
    require_view("local_attention", "k", k, q.dtype, params.q_count());
    select("local_attention", local_attention_table(), params, q.dtype, stream).run(y, q, k, params, stream);
}

void local_attention_backward(View dq, View dk, ConstView dy, ConstView q, ConstView k,
                              const LocalAttentionParams& params, Stream& stream) {
    validate(params);
    require_view("local_attention_backward", "dq", dq, q.dtype, params.q_count());
    require_view("local_attention_backward", "dk", dk, q.dtype, params.q_count());
    require_view("local_attention_backward", "dy", dy, real_type(q.dtype), params.y_count());
    require_view("local_attention_backward", "q", q, q.dtype, params.q_count());
    require_view("local_attention_backward", "k", k, q.dtype, params.q_count());
    select("local_attention_backward", local_attention_backward_table(), params, q.dtype, stream)
        .run(dq, dk, dy, q, k, params, stream);
}

}  // namespace cover
