// Every differentiable public op has a gradient check in float64 with a random cotangent; a test fails when one has
// none.
#include <map>
#include <set>

#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "cover/model.h"
#include "cover/step.h"
#include "kernels/elementwise.h"
#include "nn/init.h"
#include "tests/op_rows.h"

namespace cover {
namespace {

using test::random_tensor;

Tensor random64(const Shape& shape, std::uint32_t stream, double low = -1, double high = 1) {
    return random_tensor(shape, DType::float64, stream, low, high);
}

// Values that are a permutation of distinct steps: no two elements tie, none lies near a kink.
Tensor distinct(const Shape& shape, std::uint32_t stream) {
    Tensor t = Tensor::empty(shape, DType::float64);
    const std::int64_t count = t.count();
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) order[static_cast<std::size_t>(i)] = i;
    RandomStream random({.seed = 7, .sample = stream});
    for (std::int64_t i = count - 1; i > 0; --i)
        std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.below(i + 1))]);
    for (std::int64_t i = 0; i < count; ++i)
        t.data<double>()[i] =
            (static_cast<double>(order[static_cast<std::size_t>(i)]) + 0.5) / static_cast<double>(count) - 0.5;
    return t;
}

// Displacements whose targets keep a distance of 0.1 from the lattice, in either convention: an integer part that leads
// inside and outside, and a fraction between 0.3 and 0.7 times a small slope.
Tensor off_lattice_field(const Shape& grid, int nd, std::uint32_t stream, WarpConvention convention) {
    Shape shape = grid;
    shape[4] = nd;
    Tensor field = Tensor::empty(shape, DType::float64);
    RandomStream random({.seed = 8, .sample = stream});
    const std::int64_t sides[3] = {grid[1], grid[2], grid[3]};
    std::int64_t i = 0;
    for (std::int64_t n = 0; n < grid[0]; ++n)
        for (std::int64_t d = 0; d < grid[1]; ++d)
            for (std::int64_t h = 0; h < grid[2]; ++h)
                for (std::int64_t w = 0; w < grid[3]; ++w)
                    for (int a = 0; a < nd; ++a, ++i) {
                        const std::int64_t at[3] = {d, h, w};
                        const int axis = 3 - nd + a;
                        const double side = static_cast<double>(sides[axis]);
                        const double read =
                            static_cast<double>(at[axis] + random.below(5) - 2) + random.uniform(0.2, 0.8);
                        const double q = convention == WarpConvention::exact || sides[axis] == 1
                                             ? read
                                             : (read + 0.5) * (side - 1) / side;
                        field.data<double>()[i] = q - static_cast<double>(at[axis]);
                    }
    return field;
}

using Check = std::function<std::string(Stream&)>;

std::string both_dims(const std::function<std::string(int nd)>& check) {
    for (const int nd : {2, 3})
        if (const std::string problem = check(nd); !problem.empty()) return text(nd, "D: ", problem);
    return {};
}

Shape activation(int nd, std::int64_t n, std::int64_t d, std::int64_t h, std::int64_t w, std::int64_t c) {
    return {n, nd == 2 ? 1 : d, h, w, c};
}

// A gradient check is named after the kernels whose gradient it covers.
const std::map<std::string, Check>& checks() {
    static const std::map<std::string, Check> all{
        {"conv",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 for (const int kernel : {1, 3}) {
                     const Shape weight{nd == 2 ? 1 : kernel, kernel, kernel, 3, 8};
                     const std::string problem =
                         gradcheck([](Graph& g, const std::vector<Var>& v) { return conv(g, v[0], v[1], v[2]); },
                                   {random64(activation(nd, 2, 3, 4, 5, 3), 1), random64(weight, 2), random64({8}, 3)},
                                   s, {.spatial_dims = nd});
                     if (!problem.empty()) return problem;
                 }
                 return std::string();
             });
         }},
        {"fused_conv",
         [](Stream& s) {
             // Everything that may be pending, as the network has it: a pooled part, and one that is joined to another
             // that is up-sampled.
             return both_dims([&](int nd) {
                 const auto weight = [&](std::int64_t c_in, std::int64_t c_out) {
                     return random64({nd == 2 ? 1 : 3, 3, 3, c_in, c_out}, 30 + static_cast<std::uint32_t>(c_in));
                 };
                 const auto norm = [](Graph& g, const Var& x, const Var& gamma, const Var& beta) {
                     const Var y = group_norm(g, x, gamma, beta, 2, 1e-5, 0.2);
                     return y.pending ? y : throw Error(ErrorKind::internal, "the norm was not left pending");
                 };
                 const std::string pooled = gradcheck(
                     [&](Graph& g, const std::vector<Var>& v) {
                         const Var y = conv(g, max_pool(g, norm(g, v[0], v[1], v[2])), v[3], v[4], {.groups = 1});
                         if (!y.statistics) throw Error(ErrorKind::internal, "the convolution took no statistics");
                         return group_norm(g, y, v[5], v[6], 1, 1e-5, 1.0);
                     },
                     {distinct(activation(nd, 2, 2, 4, 6, 8), 31), random64({8}, 32, 0.5, 1.5), random64({8}, 33),
                      weight(8, 4), random64({4}, 34), random64({4}, 35, 0.5, 1.5), random64({4}, 36)},
                     s, {.spatial_dims = nd});
                 if (!pooled.empty()) return "pooled: " + pooled;
                 return gradcheck(
                     [&](Graph& g, const std::vector<Var>& v) {
                         const Var joined =
                             concat(g, norm(g, v[0], v[1], v[2]), upsample(g, norm(g, v[3], v[4], v[5]), false));
                         if (joined.pending->parts.size() != 2) throw Error(ErrorKind::internal, "not joined");
                         return conv(g, joined, v[6], v[7]);
                     },
                     {random64(activation(nd, 2, 2, 4, 6, 4), 37), random64({4}, 38, 0.5, 1.5), random64({4}, 39),
                      random64(activation(nd, 2, 1, 2, 3, 8), 40), random64({8}, 41, 0.5, 1.5), random64({8}, 42),
                      weight(12, 8), random64({8}, 43)},
                     s, {.spatial_dims = nd});
             });
         }},
        {"group_norm",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 for (const std::int64_t groups : {1, 2})
                     for (const double slope : {1.0, 0.2}) {
                         const std::string problem = gradcheck(
                             [=](Graph& g, const std::vector<Var>& v) {
                                 return group_norm(g, v[0], v[1], v[2], groups, 1e-5, slope);
                             },
                             {random64(activation(nd, 2, 2, 3, 4, 16), 4), random64({16}, 5, 0.5, 1.5),
                              random64({16}, 6)},
                             s, {.spatial_dims = nd});
                         if (!problem.empty()) return problem;
                     }
                 return std::string();
             });
         }},
        {"max_pool",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 return gradcheck([](Graph& g, const std::vector<Var>& v) { return max_pool(g, v[0]); },
                                  {distinct(activation(nd, 2, 4, 6, 4, 8), 7)}, s,
                                  {.spatial_dims = nd, .elements = 1024});
             });
         }},
        {"upsample",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 for (const bool align : {false, true})
                     for (const std::int64_t width : {1, 4}) {
                         const std::string problem = gradcheck(
                             [=](Graph& g, const std::vector<Var>& v) { return upsample(g, v[0], align, 2.0); },
                             {random64(activation(nd, 2, 2, 3, width, 3), 8)}, s, {.spatial_dims = nd});
                         if (!problem.empty()) return problem;
                     }
                 return std::string();
             });
         }},
        {"warp",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 for (const auto convention : {WarpConvention::exact, WarpConvention::reference}) {
                     const Shape shape = activation(nd, 2, 3, 5, 4, 8);
                     const std::string problem =
                         gradcheck([=](Graph& g, const std::vector<Var>& v) { return warp(g, v[0], v[1], convention); },
                                   {random64(shape, 9), off_lattice_field(shape, nd, 10, convention)}, s,
                                   {.spatial_dims = nd, .elements = 200});
                     if (!problem.empty()) return problem;
                 }
                 return std::string();
             });
         }},
        {"local_attention",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 const int radius = nd == 2 ? 2 : 1;
                 const Shape shape = activation(nd, 2, 3, 4, 5, 12);
                 return gradcheck(
                     [=](Graph& g, const std::vector<Var>& v) { return local_attention(g, v[0], v[1], 3, 4, radius); },
                     {random64(shape, 11, -2, 2), random64(shape, 12, -2, 2)}, s, {.spatial_dims = nd});
             });
         }},
        {"masked_l1",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 const Shape shape = activation(nd, 2, 3, 4, 5, nd);
                 Shape mask_shape = shape;
                 mask_shape[4] = 1;
                 Tensor mask = random64(mask_shape, 14);
                 for (std::int64_t i = 0; i < mask.count(); ++i) mask.data<double>()[i] = mask.data<double>()[i] > 0;
                 return gradcheck(
                     [=](Graph& g, const std::vector<Var>& v) {
                         return masked_l1(g, v[0], random64(shape, 13, 3, 4), mask);
                     },
                     {random64(shape, 15)}, s, {.spatial_dims = nd});
             });
         }},
        {"masked_cosine",
         [](Stream& s) {
             return both_dims([&](int nd) {
                 const Shape shape = activation(nd, 2, 3, 4, 5, 8);
                 Shape mask_shape = shape;
                 mask_shape[4] = 1;
                 Tensor mask = random64(mask_shape, 16);
                 for (std::int64_t i = 0; i < mask.count(); ++i) mask.data<double>()[i] = mask.data<double>()[i] > 0;
                 return gradcheck(
                     [=](Graph& g, const std::vector<Var>& v) { return masked_cosine(g, v[0], v[1], mask); },
                     {random64(shape, 17), random64(shape, 18)}, s, {.spatial_dims = nd});
             });
         }},
        {"add",
         [](Stream& s) {
             return gradcheck([](Graph& g, const std::vector<Var>& v) { return add(g, v[0], v[1]); },
                              {random64({1, 1, 3, 4, 8}, 19), random64({1, 1, 3, 4, 8}, 20)}, s);
         }},
        {"scale",
         [](Stream& s) {
             return gradcheck([](Graph& g, const std::vector<Var>& v) { return scale(g, v[0], -1.5); },
                              {random64({1, 1, 3, 4, 8}, 21)}, s);
         }},
        {"cast",
         [](Stream& s) {
             // There and back, through numbers that both types hold: values and gradients stay what they are. float64
             // has no other type to be cast to, so that differences have nothing to say here.
             const Shape shape{1, 1, 2, 3, 8};
             const Tensor x = test::random_tensor(shape, DType::bfloat16, 27).converted(DType::float32);
             const Tensor cotangent = test::random_tensor(shape, DType::bfloat16, 28).converted(DType::float32);
             Tensor gradient = Tensor::zeros(shape);
             Graph g(s, 2);
             const Var there = cast(g, g.leaf(x, gradient), DType::bfloat16), back = cast(g, there, DType::float32);
             if (there.value.dtype() != DType::bfloat16 || back.value.dtype() != DType::float32)
                 return std::string("a value of another type");
             g.backward(back, cotangent.clone());
             for (std::int64_t i = 0; i < x.count(); ++i)
                 if (test::element(there.value.view(), i) != test::element(x.view(), i) ||
                     test::element(back.value.view(), i) != test::element(x.view(), i) ||
                     test::element(gradient.view(), i) != test::element(cotangent.view(), i))
                     return text("element ", i, " changed on its way");
             return std::string();
         }},
        {"concat",
         [](Stream& s) {
             return gradcheck([](Graph& g, const std::vector<Var>& v) { return concat(g, v[0], v[1]); },
                              {random64({2, 1, 3, 2, 8}, 22), random64({2, 1, 3, 2, 5}, 23)}, s);
         }},
        {"split",
         [](Stream& s) {
             // The graph splits by batch; a channel split is the gradient of concat, and the other way round.
             return gradcheck(
                 [](Graph& g, const std::vector<Var>& v) {
                     const auto [first, second] = split_batch(g, v[0]);
                     return add(g, scale(g, first, 2.0), second);
                 },
                 {random64({4, 1, 3, 2, 8}, 24)}, s);
         }},
    };
    return all;
}

}  // namespace

TEST_CASE("gradient: every differentiable public op has a check") {
    std::set<std::string> differentiable;
    for (const test::PublicOp& op : test::public_ops())
        if (op.differentiable) {
            differentiable.insert(op.name);
            CHECK_MESSAGE(checks().contains(op.name), op.name, " has no gradient check in tests/gradient_test.cpp");
        }
    CHECK(differentiable.size() >= 10);
}

TEST_CASE("gradient: central differences agree for every op") {
    for (const auto& [name, check] : checks()) {
        const std::string problem = check(test::cpu_stream());
        CHECK_MESSAGE(problem.empty(), name, ": ", problem);
    }
}

TEST_CASE("gradient: a wrong gradient is found") {
    // y = 2 x with the gradient of y = x: off by a factor that no tolerance hides.
    const auto wrong = [](Graph& g, const std::vector<Var>& v) {
        Var y = scale(g, v[0], 2.0);
        return g.record("wrong", y.value, {&v[0]},
                        [x = v[0]](Graph& graph, const Tensor& dy) { graph.accumulate(x, dy.clone()); });
    };
    CHECK_FALSE(gradcheck(wrong, {random64({1, 1, 2, 2, 8}, 25)}, test::cpu_stream()).empty());

    const auto silent = [](Graph& g, const std::vector<Var>& v) {
        return g.record("silent", v[0].value.clone(), {&v[0]}, [x = v[0]](Graph& graph, const Tensor& dy) {
            graph.accumulate(x, Tensor::zeros(dy.shape(), dy.dtype()));
        });
    };
    CHECK_FALSE(gradcheck(silent, {random64({1, 1, 2, 2, 8}, 26)}, test::cpu_stream()).empty());
}

TEST_CASE("gradient: a variable used twice collects both gradients, in either order of use") {
    const auto twice = [](Graph& g, const std::vector<Var>& v) {
        const Var a = scale(g, v[0], 3.0);
        return add(g, add(g, a, v[1]), scale(g, add(g, a, v[0]), -0.5));
    };
    const std::string problem =
        gradcheck(twice, {random64({1, 1, 2, 2, 8}, 27), random64({1, 1, 2, 2, 8}, 28)}, test::cpu_stream());
    CHECK_MESSAGE(problem.empty(), problem);
}

TEST_CASE("gradient: the graph refuses a gradient of another shape") {
    Graph g(test::cpu_stream(), 2);
    const Var x = g.leaf(random64({1, 1, 2, 2, 8}, 29), Tensor::zeros({1, 1, 2, 2, 8}, DType::float64));
    CHECK_THROWS_AS(g.accumulate(x, Tensor::zeros({1, 1, 2, 2, 4}, DType::float64)), Error);
}

TEST_CASE("gradient: the whole model against central differences, 2D and 3D") {
    for (const int nd : {2, 3}) {
        // Configurations that no golden file holds.
        ModelConfig config{.spatial_dims = nd,
                           .in_channels = 2,
                           .channels = {8, 8, 16, 8, 24, 16, 8, 16, 8},
                           .head_dim = 2,
                           .heads = {1, 3, 2, 2, 1},
                           .radius = nd == 2 ? 2 : 1,
                           .warp = nd == 2 ? WarpConvention::exact : WarpConvention::reference};
        Model model(config, DType::float64);
        initialise(model.parameters(), 5);
        Views views;
        views.images = random64({2, nd == 2 ? 1 : 16, 16, 32, 2}, 30);
        views.field = random64({1, nd == 2 ? 1 : 16, 16, 32, nd}, 31, -4, 4);
        views.mask = Tensor::zeros({1, nd == 2 ? 1 : 16, 16, 32, 1}, DType::float64);
        for (std::int64_t i = 0; i < views.mask.count(); ++i) views.mask.data<double>()[i] = i % 3 != 0;
        Stream& stream = test::cpu_stream();
        forward_backward(model, views, LossTerms::both, stream);
        ParameterSet& p = model.parameters();
        const Tensor gradient = p.gradients().clone();
        double norm = 0;
        for (std::int64_t i = 0; i < gradient.count(); ++i)
            norm += gradient.data<double>()[i] * gradient.data<double>()[i];
        norm = std::sqrt(norm);
        // Directional derivatives: kinks (max pool, LeakyReLU) are crossed by few pixels at this step.
        for (std::uint32_t direction = 0; direction < 3; ++direction) {
            const Tensor random = random64(gradient.shape(), 40 + direction);
            const Tensor centre = p.values().clone();
            double analytic = 0;
            for (std::int64_t i = 0; i < gradient.count(); ++i) {
                analytic += gradient.data<double>()[i] * random.data<double>()[i];
            }
            constexpr double step = 1e-7;
            const auto loss_at = [&](double t) {
                for (std::int64_t i = 0; i < centre.count(); ++i)
                    p.values().data<double>()[i] = centre.data<double>()[i] + t * random.data<double>()[i];
                return evaluate_step(model, views, stream).loss;
            };
            const double numeric = (loss_at(step) - loss_at(-step)) / (2 * step);
            loss_at(0);
            CHECK(std::isfinite(numeric));
            CHECK_MESSAGE(std::abs(numeric - analytic) <= 1e-4 * norm, nd, "D: analytic ", analytic, ", numeric ",
                          numeric, ", norm ", norm);
        }
    }
}

}  // namespace cover
