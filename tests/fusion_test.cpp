// A step whose values are left pending beside one of plain ops, and what neither of them stores.
#include <cmath>

#include "cover/trainer.h"
#include "kernels/fused_conv.h"
#include "nn/init.h"
#include "tests/op_rows.h"
#include "tests/support.h"

namespace cover {
namespace {

ModelConfig small_network(int dims) {
    ModelConfig config;
    config.spatial_dims = dims;
    config.channels = {8, 16, 24, 32, 40, 32, 24, 16, 8};
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
};

Step step_of(int dims, std::int64_t side, std::int64_t batch, DType dtype, Stream stream, bool fuse) {
    stream.fuse = fuse;
    Model model(small_network(dims), dtype, stream.device);
    initialise(model.parameters(), 7);
    const Views views = random_views(dims, side, batch, real_type(dtype), stream.device);
    Step step{forward_backward(model, views, LossTerms::both, stream), {}};
    step.gradients = model.parameters().gradients().to(Device::cpu).converted(DType::float64);
    return step;
}

double relative_error(const Tensor& a, const Tensor& b) {
    double error = 0, norm = 0;
    for (std::int64_t i = 0; i < a.count(); ++i) {
        const double x = a.data<double>()[i], y = b.data<double>()[i];
        error += (x - y) * (x - y);
        norm += y * y;
    }
    return std::sqrt(error / norm);
}

// The device's own choice, where it has one; on a CUDA device, where what is unproven is taken by name alone, each row.
std::vector<KernelSelection> choices(Device device, DType dtype) {
    std::vector<KernelSelection> out;
    for (const auto& row : fused_conv_table()) {
        if (row.device != device || row.dtype != dtype) continue;
        if (device == Device::cuda)
            out.push_back({{{"fused_conv", row.name}}});
        else if (out.empty())
            out.emplace_back();
    }
    return out;
}

void compare_with_plain(int dims, DType dtype, const Stream& stream) {
    const std::int64_t side = dims == 2 ? 32 : 16;
    const Step fused = step_of(dims, side, 1, dtype, stream, true),
               plain = step_of(dims, side, 1, dtype, stream, false);
    // Statistics are summed in another order; in bfloat16 a value at the edge of a rounding then falls to its other
    // side, and so do the values that follow from it.
    const double losses = dtype == DType::bfloat16 ? 5e-3 : 1e-5, gradients = dtype == DType::bfloat16 ? 0.1 : 1e-3;
    const std::string at = text(name_of(stream.device), ", ", name_of(dtype), ", ", dims, "D: ");
    CHECK_MESSAGE(std::abs(fused.result.loss - plain.result.loss) <= losses * plain.result.loss, at, fused.result.loss,
                  " and ", plain.result.loss);
    const double error = relative_error(fused.gradients, plain.gradients);
    CHECK_MESSAGE(error <= gradients, at, "the gradients part by ", error);
    const Stream& alone = stream.device == Device::cpu ? test::cpu_stream(1) : *test::device_stream(stream.device, 1);
    Stream other = alone;
    other.selection = stream.selection;
    const Step again = step_of(dims, side, 1, dtype, other, true);
    CHECK_MESSAGE(test::same_bits(again.gradients.const_view(), fused.gradients.const_view()), at,
                  "other bits on another number of threads");
}

}  // namespace

TEST_CASE("fusion: a step in float64 is the plain one, bit for bit") {
    for (const int dims : {2, 3}) {
        const Step fused = step_of(dims, 16, 2, DType::float64, test::cpu_stream(), true),
                   plain = step_of(dims, 16, 2, DType::float64, test::cpu_stream(), false);
        CHECK(fused.result.loss == plain.result.loss);
        CHECK(test::same_bits(fused.gradients.const_view(), plain.gradients.const_view()));
    }
}

TEST_CASE("fusion: a step agrees with the plain one, on the CPU and on every device") {
    std::vector<Device> all = test::devices();
    all.insert(all.begin(), Device::cpu);
    for (const Device device : all)
        for (const DType dtype : {DType::float32, DType::bfloat16})
            for (const KernelSelection& rows : choices(device, dtype)) {
                Stream stream = device == Device::cpu ? test::cpu_stream() : *test::device_stream(device);
                stream.selection = &rows;
                REQUIRE(fuses_convs(dtype, stream));
                for (const int dims : {2, 3}) compare_with_plain(dims, dtype, stream);
            }
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
