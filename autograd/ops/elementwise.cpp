#include "kernels/elementwise.h"

#include "autograd/ops.h"

namespace cover {
namespace {

// The first or the second half of a tensor's samples.
Tensor half_of(const Tensor& t, std::int64_t index) {
    if (!t.defined()) return t;
    Shape half = t.shape();
    half[0] /= 2;
    return t.slice(index * half.count(), half);
}

// Of a value that is pending: only the samples of this half are ever made.
std::vector<PendingPart> half_of(const std::vector<PendingPart>& whole, std::int64_t index) {
    std::vector<PendingPart> half;
    for (const PendingPart& part : whole)
        half.push_back({half_of(part.x, index), half_of(part.mean, index), half_of(part.rstd, index), part.gamma,
                        part.beta, part.params});
    return half;
}

}  // namespace

Var add(Graph& graph, const Var& a, const Var& b) {
    require(a.shape() == b.shape(), ErrorKind::internal, "[add] shapes differ: ", a.shape().to_string(), " and ",
            b.shape().to_string());
    Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
    add(y.view(), graph.value(a).const_view(), graph.value(b).const_view(), {.count = y.count()}, graph.stream());

    return graph.record("add", std::move(y), {&a, &b}, [pa = a.place(), pb = b.place()](Graph& g, const Tensor& dy) {
        g.accumulate(pa, dy);
        g.accumulate(pb, dy);
    });
}

Var scale(Graph& graph, const Var& x, double factor) {
    const ElementwiseParams params{.count = x.shape().count(), .factor = factor};
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    scale(y.view(), graph.value(x).const_view(), params, graph.stream());

    return graph.record("scale", std::move(y), {&x}, [params, place = x.place()](Graph& g, const Tensor& dy) {
        Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
        scale(dx.view(), dy.view(), params, g.stream());
        g.accumulate(place, std::move(dx));
    });
}

Var cast(Graph& graph, const Var& x, DType dtype) {
    const DType from = x.dtype();
    if (dtype == from) return x;
    require(dtype == cast_type(from), ErrorKind::internal, "[cast] ", name_of(from), " is not cast to ",
            name_of(dtype));
    const ElementwiseParams params{.count = x.shape().count()};
    Tensor y = Tensor::empty(x.shape(), dtype, x.device());
    cast(y.view(), graph.value(x).const_view(), params, graph.stream());

    return graph.record("cast", std::move(y), {&x}, [params, from, place = x.place()](Graph& g, const Tensor& dy) {
        Tensor dx = Tensor::empty(dy.shape(), from, dy.device());
        cast(dx.view(), dy.view(), params, g.stream());
        g.accumulate(place, std::move(dx));
    });
}

Var concat(Graph& graph, const Var& a, const Var& b) {
    const Shape sa = a.shape(), sb = b.shape(), joined{sa[0], sa[1], sa[2], sa[3], sa[4] + sb[4]};
    for (int axis = 0; axis < 4; ++axis)
        require(sa[axis] == sb[axis], ErrorKind::internal, "[concat] ", sa.to_string(), " and ", sb.to_string(),
                " differ in more than their channels");
    const ConcatParams params{.pixels = sa.count() / sa[4], .c_a = sa[4], .c_b = sb[4]};
    const auto compute = [joined, params](const Tensor& first, const Tensor& second, Stream& stream) {
        Tensor y = Tensor::empty(joined, first.dtype(), first.device());
        concat(y.view(), first.view(), second.view(), params, stream);
        return y;
    };

    const auto backward = [sa, sb, params, pa = a.place(), pb = b.place()](Graph& g, const Tensor& dy) {
        Tensor da = Tensor::empty(sa, dy.dtype(), dy.device());
        Tensor db = Tensor::empty(sb, dy.dtype(), dy.device());
        split(da.view(), db.view(), dy.view(), params, g.stream());
        g.accumulate(pa, std::move(da));
        g.accumulate(pb, std::move(db));
    };
    const auto single = [](const Var& x) { return x.pending && x.pending->parts.size() == 1; };
    if (single(a) && single(b)) {
        Var joint =
            graph.record_pending("concat", joined, {a.pending->parts[0], b.pending->parts[0]}, {&a, &b}, backward);
        joint.pending->nodes = {a.node, b.node};
        return joint;
    }
    const Var result =
        graph.record("concat", compute(graph.value(a), graph.value(b), graph.stream()), {&a, &b}, backward);
    return graph.with_recipe(result, [compute, a = Kept(a), b = Kept(b)](Stream& stream) {
        return compute(a.value(stream), b.value(stream), stream);
    });
}

std::pair<Var, Var> split_batch(Graph& graph, const Var& x) {
    const Shape& s = x.shape();
    require(s[0] % 2 == 0, ErrorKind::internal, "[split_batch] an odd batch of ", s[0], " cannot be halved");
    const Shape half{s[0] / 2, s[1], s[2], s[3], s[4]};
    const auto part = [&](std::int64_t index) {
        const std::int64_t offset = index * half.count();
        const auto backward = [offset, place = x.place()](Graph& g, const Tensor& dy) {
            g.accumulate_slice(place, offset, dy);
        };
        if (x.pending)
            return graph.record_pending("split_batch", half, half_of(x.pending->parts, index), {&x}, backward);
        const Var result = graph.record("split_batch", x.value.slice(offset, half), {&x}, backward);
        // Without a recipe a half would keep the whole.
        if (!x.recipe) return result;
        return graph.with_recipe(
            result, [offset, half, x = Kept(x)](Stream& stream) { return x.value(stream).slice(offset, half); });
    };
    return {part(0), part(1)};
}

}  // namespace cover
