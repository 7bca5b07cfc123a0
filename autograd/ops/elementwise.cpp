#include "kernels/elementwise.h"

#include "autograd/ops.h"

namespace cover {

Var add(Graph& graph, const Var& a, const Var& b) {
    require(a.shape() == b.shape(), ErrorKind::internal, "[add] shapes differ: ", a.shape().to_string(), " and ",
            b.shape().to_string());
    Tensor y = Tensor::empty(a.shape(), a.value.dtype(), a.value.device());
    add(y.view(), a.value.view(), b.value.view(), {.count = y.count()}, graph.stream());

    return graph.record("add", std::move(y), {&a, &b},
                        [pa = Var{{}, a.node, nullptr}, pb = Var{{}, b.node, nullptr}](Graph& g, const Tensor& dy) {
                            g.accumulate(pa, dy);
                            g.accumulate(pb, dy);
                        });
}

Var scale(Graph& graph, const Var& x, double factor) {
    const ElementwiseParams params{.count = x.value.count(), .factor = factor};
    Tensor y = Tensor::empty(x.shape(), x.value.dtype(), x.value.device());
    scale(y.view(), x.value.view(), params, graph.stream());

    return graph.record("scale", std::move(y), {&x},
                        [params, place = Var{{}, x.node, nullptr}](Graph& g, const Tensor& dy) {
                            Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
                            scale(dx.view(), dy.view(), params, g.stream());
                            g.accumulate(place, std::move(dx));
                        });
}

Var cast(Graph& graph, const Var& x, DType dtype) {
    const DType from = x.value.dtype();
    if (dtype == from) return x;
    require(dtype == cast_type(from), ErrorKind::internal, "[cast] ", name_of(from), " is not cast to ",
            name_of(dtype));
    const ElementwiseParams params{.count = x.value.count()};
    Tensor y = Tensor::empty(x.shape(), dtype, x.value.device());
    cast(y.view(), x.value.view(), params, graph.stream());

    return graph.record("cast", std::move(y), {&x},
                        [params, from, place = Var{{}, x.node, nullptr}](Graph& g, const Tensor& dy) {
                            Tensor dx = Tensor::empty(dy.shape(), from, dy.device());
                            cast(dx.view(), dy.view(), params, g.stream());
                            g.accumulate(place, std::move(dx));
                        });
}

Var concat(Graph& graph, const Var& a, const Var& b) {
    const Shape sa = a.shape(), sb = b.shape();
    const ConcatParams params{.pixels = sa.count() / sa[4], .c_a = sa[4], .c_b = sb[4]};
    const auto compute = [sa, sb, params](const Tensor& first, const Tensor& second, Stream& stream) {
        Tensor y = Tensor::empty({sa[0], sa[1], sa[2], sa[3], sa[4] + sb[4]}, first.dtype(), first.device());
        concat(y.view(), first.view(), second.view(), params, stream);
        return y;
    };

    const Var result = graph.record(
        "concat", compute(a.value, b.value, graph.stream()), {&a, &b},
        [sa, sb, params, pa = Var{{}, a.node, nullptr}, pb = Var{{}, b.node, nullptr}](Graph& g, const Tensor& dy) {
            Tensor da = Tensor::empty(sa, dy.dtype(), dy.device());
            Tensor db = Tensor::empty(sb, dy.dtype(), dy.device());
            split(da.view(), db.view(), dy.view(), params, g.stream());
            g.accumulate(pa, std::move(da));
            g.accumulate(pb, std::move(db));
        });
    return graph.with_recipe(result, [compute, a = Kept(a), b = Kept(b)](Stream& stream) {
        return compute(a.value(stream), b.value(stream), stream);
    });
}

std::pair<Var, Var> split_batch(Graph& graph, const Var& x) {
    const Shape& s = x.shape();
    require(s[0] % 2 == 0, ErrorKind::internal, "[split_batch] an odd batch of ", s[0], " cannot be halved");
    const Shape half{s[0] / 2, s[1], s[2], s[3], s[4]};
    const auto part = [&](std::int64_t offset) {
        const Var result = graph.record("split_batch", x.value.slice(offset, half), {&x},
                                        [offset, place = Var{{}, x.node, nullptr}](Graph& g, const Tensor& dy) {
                                            g.accumulate_slice(place, offset, dy);
                                        });
        // Without a recipe a half would keep the whole.
        if (!x.recipe) return result;
        return graph.with_recipe(
            result, [offset, half, x = Kept(x)](Stream& stream) { return x.value(stream).slice(offset, half); });
    };
    return {part(0), part(half.count())};
}

}  // namespace cover
