#include "kernels/local_attention.h"

#include "autograd/ops.h"

namespace cover {

Var local_attention(Graph& graph, const Var& q, const Var& k, int heads, int head_dim, int radius) {
    const Shape& s = q.shape();
    const LocalAttentionParams params{
        .n = s[0], .grid = graph.grid_of(s), .heads = heads, .head_dim = head_dim, .radius = radius};
    const DType dtype = q.dtype();
    Tensor y = Tensor::empty({s[0], s[1], s[2], s[3], graph.spatial_dims()}, real_type(dtype), q.device());
    local_attention(y.view(), graph.value(q).const_view(), graph.value(k).const_view(), params, graph.stream());

    return graph.record("local_attention", std::move(y), {&q, &k},
                        [=, q = Kept(q), k = Kept(k)](Graph& g, const Tensor& dy) {
                            Tensor dq = Tensor::empty(q.shape(), dtype, dy.device());
                            Tensor dk = Tensor::empty(k.shape(), dtype, dy.device());
                            local_attention_backward(dq.view(), dk.view(), dy.view(), q.value(g.stream()).const_view(),
                                                     k.value(g.stream()).const_view(), params, g.stream());
                            g.accumulate(q.place(), std::move(dq));
                            g.accumulate(k.place(), std::move(dk));
                        });
}

}  // namespace cover
