// A step whose values are left pending beside one of plain ops, and what neither of them stores.
#include <algorithm>
#include <cmath>
#include <set>

#include "cover/trainer.h"
#include "kernels/catalogue.h"
#include "kernels/fused_conv.h"
#include "nn/init.h"
#include "tests/op_rows.h"
#include "tests/support.h"

namespace cover {
namespace {

// On a CUDA device one whose every layer behind the first rung 6 takes, joined ones included.
ModelConfig small_network(int dims, Device device = Device::cpu) {
    ModelConfig config;
    config.spatial_dims = dims;
    config.channels = {8, 16, 24, 32, 40, 32, 24, 16, 8};
    if (device == Device::cuda) config.channels = {32, 64, 64, 64, 64, 64, 64, 64, 32};
    return config;
}

Views random_views(int dims, std::int64_t side, std::int64_t batch, DType dtype, Device device) {
    const std::int64_t depth = dims == 3 ? side : 1;
    Views views;
    views.images = test::random_tensor({2 * batch, depth, side, side, 1}, dtype, 1).to(device);
    views.field = test::random_tensor({batch, depth, side, side, dims}, dtype, 2, -3, 3).to(device);
    Tensor mask = Tensor::empty({batch, depth, side, side, 1});
    for (std::int64_t i = 0; i < mask.count(); ++i) mask.data<float>()[i] = i % 5 == 0 ? 0.0F : 1.0F;
    views.mask = mask.converted(dtype).to(device);
    return views;
}

struct Step {
    StepResult result;
    Tensor gradients;  // of all parameters, in float64
    std::set<std::string> rows;
};

// Plain: with nothing left pending, by the device's own choice of rows.
Step step_of(int dims, std::int64_t side, std::int64_t batch, DType dtype, Stream stream, bool fuse) {
    KernelProfile profile;
    stream.profile = &profile;
    stream.fuse = fuse;
    if (!fuse) stream.selection = nullptr;
    Model model(small_network(dims, stream.device), dtype, stream.device);
    initialise(model.parameters(), 7);
    const Views views = random_views(dims, side, batch, real_type(dtype), stream.device);
    Step step{forward_backward(model, views, LossTerms::both, stream), {}, {}};
    step.gradients = model.parameters().gradients().to(Device::cpu).converted(DType::float64);
    for (const auto& [row, entry] : profile.entries) step.rows.insert(row);
    return step;
}

// Whether the step ran a row of each of the ops, of any name or of the one that is given.
bool ran(const Step& step, std::initializer_list<const char*> ops, const std::string& row = {}) {
    return std::ranges::all_of(ops, [&](const char* op) {
        return std::ranges::any_of(step.rows, [&](const std::string& entry) {
            return row.empty() ? entry.starts_with(text(op, ":")) : entry == text(op, ":", row);
        });
    });
}

constexpr auto fused_ops = {"fused_conv", "fused_conv_backward_data", "fused_conv_backward_weight"};

double relative_error(const Tensor& a, const Tensor& b) {
    double error = 0, norm = 0;
    for (std::int64_t i = 0; i < a.count(); ++i) {
        const double x = a.data<double>()[i], y = b.data<double>()[i];
        error += (x - y) * (x - y);
        norm += y * y;
    }
    return std::sqrt(error / norm);
}

// The device's own choice, where it has one; on a CUDA device, where what is unproven is taken by name alone, each row
// of fused_conv with those of its name in the other tables.
std::vector<KernelSelection> choices(Device device, DType dtype, Math math) {
    std::vector<KernelSelection> out;
    for (const auto& row : fused_conv_table()) {
        if (row.device != device || row.dtype != dtype || row.math != math) continue;
        if (device == Device::cuda)
            out.push_back(selection_of({text("fused_conv:", row.name)}));
        else if (out.empty())
            out.emplace_back();
    }
    return out;
}

void compare_with_plain(int dims, DType dtype, const Stream& stream) {
    const std::int64_t side = dims == 2 ? 32 : 16;
    const Step fused = step_of(dims, side, 1, dtype, stream, true),
               plain = step_of(dims, side, 1, dtype, stream, false);
    const std::string* named = wanted_row("fused_conv", stream);
    const bool is_tf32 = stream.math == Math::tf32;
    const std::string at = text(name_of(stream.device), ", ", is_tf32 ? "tf32" : name_of(dtype), ", ", dims, "D, ",
                                named ? *named : "", ": ");
    CHECK_MESSAGE(ran(fused, {"fused_conv"}, named ? *named : ""), at);
    CHECK_MESSAGE(ran(fused, fused_ops), at);
    if (const std::string* weight = wanted_row("fused_conv_backward_weight", stream))
        CHECK_MESSAGE(ran(fused, {"fused_conv_backward_weight"}, *weight), at);
    CHECK_MESSAGE(!ran(fused, {"concat"}), at);
    CHECK_MESSAGE((ran(plain, {"conv", "concat", "split"}) && !ran(plain, {"fused_conv"})), at);
    // Statistics are summed in another order; in bfloat16 and TF32 a value at the edge of a rounding then falls to its
    // other side, and so do the values that follow from it. The limits of the gradients there are some four times what
    // the emulation shows (a limit of 0 prints it).
    const double losses = dtype == DType::bfloat16 ? 2e-5
                          : is_tf32                ? 5e-6
                                                   : 1e-6,
                 gradients = dtype == DType::bfloat16 ? 0.02
                             : is_tf32                ? 0.002
                                                      : 5e-5;
    CHECK_MESSAGE(std::abs(fused.result.loss - plain.result.loss) <= losses * plain.result.loss, at, fused.result.loss,
                  " and ", plain.result.loss);
    const double error = relative_error(fused.gradients, plain.gradients);
    CHECK_MESSAGE(error <= gradients, at, "the gradients part by ", error);
    Stream other = stream.device == Device::cpu ? test::cpu_stream(1) : *test::device_stream(stream.device, 1);
    other.selection = stream.selection;
    other.math = stream.math;
    const Step again = step_of(dims, side, 1, dtype, other, true);
    CHECK_MESSAGE(test::same_bits(again.gradients.const_view(), fused.gradients.const_view()), at,
                  "other bits on another number of threads");
}

}  // namespace

TEST_CASE("fusion: a step in float64 is the plain one, bit for bit") {
    for (const int dims : {2, 3}) {
        const Step fused = step_of(dims, 16, 2, DType::float64, test::cpu_stream(), true),
                   plain = step_of(dims, 16, 2, DType::float64, test::cpu_stream(), false);
        CHECK(ran(fused, fused_ops));
        CHECK(!ran(plain, {"fused_conv"}));
        CHECK(fused.result.loss == plain.result.loss);
        CHECK(test::same_bits(fused.gradients.const_view(), plain.gradients.const_view()));
    }
}

TEST_CASE("fusion: a step agrees with the plain one, on the CPU and on every device") {
    std::vector<Device> all = test::devices();
    if (test::is_tested(Device::cpu)) all.insert(all.begin(), Device::cpu);
    if (all.empty()) test::skip("no device of those that this run is narrowed to is here");
    for (const Device device : all)
        for (const auto& [dtype, math] :
             {std::pair{DType::float32, Math::exact}, {DType::float32, Math::tf32}, {DType::bfloat16, Math::exact}}) {
            // The CPU has float32 alone.
            const bool is_float32 = dtype == DType::float32 && math == Math::exact;
            CHECK(choices(device, dtype, math).empty() == (device == Device::cpu && !is_float32));
            for (const KernelSelection& rows : choices(device, dtype, math)) {
                Stream stream = device == Device::cpu ? test::cpu_stream() : *test::device_stream(device);
                stream.selection = &rows;
                stream.math = math;
                REQUIRE(fuses_convs(dtype, stream));
                for (const int dims : {2, 3}) compare_with_plain(dims, dtype, stream);
            }
        }
}

TEST_CASE("fusion: what a convolution cannot read is made, with the same values and gradients") {
    // A pool of a pool, an up-sampling of one, a norm of a pending value, a join of three, halves of a join, statistics
    // for another norm than was announced, and a value that is read both ways.
    const auto run = [](bool fuse) {
        Stream stream = test::cpu_stream();
        stream.fuse = fuse;
        Graph graph(stream, 2);
        std::vector<Tensor> gradients;
        const auto leaf = [&](const Shape& shape, std::uint32_t seed) {
            const Tensor value = test::random_tensor(shape, DType::float64, seed);
            gradients.push_back(Tensor::zeros(shape, DType::float64));
            return graph.leaf(value, gradients.back());
        };
        const Var x = leaf({2, 1, 8, 8, 8}, 1), gamma = leaf({8}, 2), beta = leaf({8}, 3);
        const Var weight = leaf({1, 3, 3, 8, 8}, 4), bias = leaf({8}, 5), wide = leaf({1, 3, 3, 24, 8}, 6);
        const auto norm = [&](const Var& v) { return group_norm(graph, v, gamma, beta, 2, 1e-5, 0.2); };
        const Var a = norm(conv(graph, x, weight, bias, {.groups = 1}));
        const Var small = max_pool(graph, max_pool(graph, a));
        const Var large = upsample(graph, upsample(graph, small, false), false);
        const Var three = concat(graph, concat(graph, a, norm(a)), large);
        const auto [first, second] = split_batch(graph, concat(graph, a, upsample(graph, max_pool(graph, a), false)));
        const Var sum = add(graph, conv(graph, three, wide, bias), norm(conv(graph, a, weight, bias, {.groups = 2})));
        const Var halves = leaf({1, 3, 3, 16, 8}, 7);
        const Var half = add(graph, conv(graph, first, halves, bias), conv(graph, second, halves, bias));
        const Tensor mask = test::random_tensor({1, 1, 8, 8, 1}, DType::float64, 8, 0, 1);
        const auto [upper, lower] = split_batch(graph, sum);
        const Var loss = add(graph, masked_cosine(graph, upper, half, mask), masked_cosine(graph, lower, half, mask));
        graph.backward(loss);
        gradients.push_back(loss.value);
        return gradients;
    };
    const std::vector<Tensor> fused = run(true), plain = run(false);
    for (std::size_t i = 0; i < plain.size(); ++i)
        CHECK_MESSAGE(test::difference(fused[i].const_view(), plain[i].const_view(), 1e-12, 1e-12) == "", i);
}

TEST_CASE("fusion: wrong joins and pools are refused where they are asked for") {
    Stream& stream = test::cpu_stream();
    Graph graph(stream, 2);
    const auto norm_of = [&](const Shape& shape) {
        const Tensor ones = Tensor::empty({shape[4]}, DType::float64);
        return group_norm(graph, graph.constant(test::random_tensor(shape, DType::float64, 1)), graph.constant(ones),
                          graph.constant(ones), 1, 1e-5, 1.0);
    };
    const auto says = [](const std::function<void()>& body) {
        try {
            body();
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    const Var odd = norm_of({1, 1, 3, 4, 8}), even = norm_of({1, 1, 4, 4, 8});
    CHECK(odd.pending);
    CHECK(says([&] { max_pool(graph, odd); }).find("[max_pool]") != std::string::npos);
    CHECK(says([&] { concat(graph, odd, even); }).find("[concat]") != std::string::npos);
}

TEST_CASE("fusion: a forward pass stores what convolutions leave, and nothing that follows from it") {
    Stream& stream = test::cpu_stream();
    for (const int dims : {2, 3}) {
        const ModelConfig config = small_network(dims);
        Model model(config, DType::float32, Device::cpu);
        initialise(model.parameters(), 7);
        const std::int64_t side = 32, depth = dims == 3 ? side : 1;
        const Tensor images = test::random_tensor({2, depth, side, side, 1}, DType::float32, 1);
        std::int64_t outputs = 0;
        for (std::size_t level = 0; level < 9; ++level) {
            const std::int64_t scale = std::int64_t{1} << (level < 5 ? level : 8 - level);
            outputs += 2 * 2 * (depth / (dims == 3 ? scale : 1)) * (side / scale) * (side / scale) *
                       config.channels[level];  // two convolutions of two images
        }
        const std::size_t before = memory_statistics().in_use;
        Graph graph(stream, dims);
        const std::vector<Var> features = model.features(graph, graph.constant(images));
        const auto stored = static_cast<double>(memory_statistics().in_use - before),
                   expected = 4.0 * static_cast<double>(outputs);
        CHECK(fuses_convs(DType::float32, stream));
        CHECK_MESSAGE(stored >= expected, dims, "D: ", stored, " bytes, convolutions alone leave ", expected);
        // Statistics and the rounding of blocks to whole lines.
        CHECK_MESSAGE(stored <= 1.02 * expected, dims, "D: ", stored, " bytes, convolutions leave ", expected);
    }
}

}  // namespace cover
