// Devices other than the CPU: their memory, and whole training steps on them beside the CPU's.
#include <cmath>
#include <string>

#include "core/device_memory.h"
#include "core/file.h"
#include "cover/trainer.h"
#include "kernels/catalogue.h"
#include "kernels/devices.h"
#include "nn/init.h"
#include "tests/run_program.h"
#include "tests/support.h"

namespace cover {
namespace {

// Every device of this machine that is not the CPU: always the emulated one.
std::vector<Device> devices() {
    std::vector<Device> found;
    for (const Device device : {Device::emulated, Device::cuda})
        if (test::device_stream(device)) found.push_back(device);
    return found;
}

Views random_views(int dims, std::int64_t side, std::int64_t batch) {
    const std::int64_t depth = dims == 3 ? side : 1;
    Views views;
    views.images = test::random_tensor({2 * batch, depth, side, side, 1}, DType::float32, 1);
    views.field = test::random_tensor({batch, depth, side, side, dims}, DType::float32, 2, -3, 3);
    views.mask = Tensor::empty({batch, depth, side, side, 1});
    for (std::int64_t i = 0; i < views.mask.count(); ++i) views.mask.data<float>()[i] = i % 5 == 0 ? 0.0F : 1.0F;
    return views;
}

struct TwoSteps {
    StepResult results[2];
    std::vector<NamedTensor> gradients;  // of the first step
};

TwoSteps two_steps(const ModelConfig& config, const Views& views, Stream& stream) {
    Model model(config, DType::float32, stream.device);
    initialise(model.parameters(), 7);
    Optimizer optimizer(model.parameters(), {});
    Views here = views;
    for (Tensor* tensor : {&here.images, &here.field, &here.mask}) *tensor = tensor->to(stream.device);
    TwoSteps out;
    for (int step = 0; step < 2; ++step) {
        out.results[step] = train_step(model, optimizer, here, LossTerms::both, 1e-3, stream);
        if (step > 0) continue;
        const ParameterSet& p = model.parameters();
        for (std::size_t i = 0; i < p.list().size(); ++i)
            out.gradients.push_back({p.list()[i].name, p.to_file(p.gradients(), static_cast<int>(i))});
    }
    return out;
}

// Squares of the difference and of b.
std::pair<double, double> squares(const Tensor& a, const Tensor& b) {
    double error = 0, norm = 0;
    for (std::int64_t i = 0; i < a.count(); ++i) {
        const double d = a.data<float>()[i] - b.data<float>()[i];
        error += d * d;
        norm += static_cast<double>(b.data<float>()[i]) * b.data<float>()[i];
    }
    return {error, norm};
}

// The first losses come from the same weights; those of the second step have felt a gradient.
void compare_steps(const ModelConfig& config, std::int64_t side, std::int64_t batch) {
    const Views views = random_views(config.spatial_dims, side, batch);
    const TwoSteps cpu = two_steps(config, views, test::cpu_stream());
    for (const Device device : devices()) {
        const TwoSteps other = two_steps(config, views, *test::device_stream(device));
        for (int step = 0; step < 2; ++step) {
            const StepResult &a = other.results[step], &b = cpu.results[step];
            const std::string at = text(name_of(device), ", ", config.spatial_dims, "D, step ", step);
            CHECK_MESSAGE(std::abs(a.loss - b.loss) <= 1e-4 * std::max(1.0, b.loss), at, ": loss ", a.loss, ", ",
                          b.loss);
            CHECK_MESSAGE(std::abs(a.loss_vec - b.loss_vec) <= 1e-4 * std::max(1.0, b.loss_vec), at);
            CHECK_MESSAGE(std::abs(a.loss_con - b.loss_con) <= 1e-4, at);
            CHECK_MESSAGE(std::abs(a.loss_vec_zero - b.loss_vec_zero) <= 1e-5 * b.loss_vec_zero, at);
        }
        double error = 0, norm = 0;
        for (std::size_t i = 0; i < cpu.gradients.size(); ++i) {
            const auto [e, n] = squares(other.gradients[i].tensor, cpu.gradients[i].tensor);
            error += e;
            norm += n;
            // The bias of a convolution in front of a group norm has next to no gradient of its own.
            if (n > 1e-12)
                CHECK_MESSAGE(std::sqrt(e / n) <= 1e-2, name_of(device), ": gradient of ", cpu.gradients[i].name,
                              " is off by ", std::sqrt(e / n));
        }
        CHECK_MESSAGE(std::sqrt(error / norm) <= 2e-3, name_of(device), ": the gradient is off by ",
                      std::sqrt(error / norm));
        release_unused_memory(device);
        if (config.channels[8] != 8) continue;  // the small networks are enough for the same bits twice
        const TwoSteps again = two_steps(config, views, *test::device_stream(device, 1));
        CHECK(again.results[1].loss == other.results[1].loss);
        CHECK(again.results[1].grad_norm == other.results[1].grad_norm);
    }
}

ModelConfig uneven_channels(int dims) {
    ModelConfig config;
    config.spatial_dims = dims;
    config.channels = {8, 16, 24, 32, 40, 32, 24, 16, 8};
    return config;
}

}  // namespace

TEST_CASE("device: blocks are kept, counted and handed out again, poisoned on the emulated device") {
    for (const Device device : devices()) {
        release_unused_memory(device);
        const MemoryStatistics before = memory_statistics(device);
        const void* first = nullptr;
        {
            const Tensor t = Tensor::empty({1000}, DType::float32, device);
            first = t.view().data;
            CHECK(memory_statistics(device).in_use == before.in_use + 4032);  // to a multiple of 64 bytes
            if (device == Device::emulated) CHECK(std::isnan(t.to(Device::cpu).data<float>()[999]));
        }
        CHECK(memory_statistics(device).in_use == before.in_use);
        {
            Tensor t = Tensor::zeros({1000}, DType::float32, device);
            CHECK(t.to(Device::cpu).data<float>()[999] == 0);
            const char* arena = std::getenv("COVER_ARENA");
            if (!(arena && std::string(arena) == "off")) CHECK(t.view().data == first);
            t.fill(2.5);
            const Tensor copy = t.clone(), part = copy.slice(500, {2});
            CHECK(part.to(Device::cpu).data<float>()[1] == 2.5);
            CHECK(copy.slice(7, {1}).item() == 2.5);
            CHECK(t.all_finite());
            t.slice(3, {1}).fill(std::numeric_limits<double>::infinity());
            CHECK_FALSE(t.all_finite());
            CHECK(copy.all_finite());
            CHECK_THROWS_AS(t.data<float>(), Error);
        }
        release_unused_memory(device);
        CHECK(memory_statistics(device).held == before.held);
    }
}

TEST_CASE("device: two steps of the default network agree with the CPU, 2D") { compare_steps({}, 32, 2); }

TEST_CASE("device: two steps of the default network agree with the CPU, 3D") {
    ModelConfig config;
    config.spatial_dims = 3;
    compare_steps(config, 16, 1);
}

TEST_CASE("device: two steps of a network with uneven channels agree with the CPU") {
    compare_steps(uneven_channels(2), 32, 2);
    compare_steps(uneven_channels(3), 16, 1);
}

TEST_CASE("device: a run on the emulated device, stopped and resumed, ends with the same bits; it evaluates") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/patches.h5", 24);
    const std::string common =
        "pretrain --data %d/patches.h5 --patch 16 --batch 2 --channels 8,8,8,8,8,8,8,8,8 --device emulated --holdout "
        "0 ";
    const auto run = [&](const std::string& arguments) {
        const test::Outcome outcome = test::run_program(folder, arguments);
        CHECK_MESSAGE(outcome.code == 0, arguments, "\n", outcome.err);
    };
    run(common + "--steps 4 --out %d/whole");
    run(common + "--steps 2 --out %d/parts");
    run(common + "--steps 4 --out %d/parts --resume");
    const std::string weights = read_file(folder.path() + "/whole/model.safetensors");
    CHECK(weights == read_file(folder.path() + "/parts/model.safetensors"));
    run("evaluate --weights %d/whole --data %d/patches.h5 --pairs 2 --device emulated");
    CHECK(test::run_program(folder, "bench ops --device emulated").code == 5);
}

TEST_CASE("device: every op has a row on the emulated device") {
    for (const OpRows& op : kernel_catalogue()) {
        bool found = false;
        for (const RowFacts& row : op.rows) found = found || row.device == Device::emulated;
        CHECK_MESSAGE(found, op.op);
    }
}

TEST_CASE("device: a CUDA device runs what the emulation runs") {
    std::size_t rows = 0;
    for (const OpRows& op : kernel_catalogue())
        for (const RowFacts& row : op.rows) rows += row.device == Device::cuda;
    const std::string reason = why_unavailable(Device::cuda);
    // The other tests of this file and every "every row" test take the device in where there is one.
    if (!reason.empty()) return test::skip(text("no CUDA device: ", rows, " CUDA rows were not run. ", reason));
    CHECK(rows > 0);
}

}  // namespace cover
