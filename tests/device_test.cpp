// Devices other than the CPU: their memory, and whole training steps on them beside the CPU's.
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "core/device_memory.h"
#include "core/file.h"
#include "cover/trainer.h"
#include "kernels/catalogue.h"
#include "kernels/devices.h"
#include "nn/init.h"
#include "tests/op_rows.h"
#include "tests/run_program.h"
#include "tests/support.h"

namespace cover {
namespace {

using test::devices;

Views random_views(int dims, std::int64_t side, std::int64_t batch, std::uint32_t seed = 1) {
    const std::int64_t depth = dims == 3 ? side : 1;
    Views views;
    views.images = test::random_tensor({2 * batch, depth, side, side, 1}, DType::float32, seed);
    views.field = test::random_tensor({batch, depth, side, side, dims}, DType::float32, seed + 1, -3, 3);
    views.mask = Tensor::empty({batch, depth, side, side, 1});
    for (std::int64_t i = 0; i < views.mask.count(); ++i) views.mask.data<float>()[i] = i % 5 == 0 ? 0.0F : 1.0F;
    return views;
}

// The CUDA device; null where there is none, and then the test is skipped with the reason.
Stream* cuda_stream_or_skip() {
    Stream* stream = test::device_stream(Device::cuda);
    if (!stream) test::skip(text("no CUDA device. ", why_unavailable(Device::cuda)));
    return stream;
}

struct TwoSteps {
    StepResult results[2];
    std::vector<NamedTensor> gradients;  // of the first step
};

// dtype: of features. noise: a seed; each weight is off by up to 2e-6 of itself. 0: none is.
TwoSteps two_steps(const ModelConfig& config, const Views& views, Stream& stream, DType dtype = DType::float32,
                   std::uint32_t noise = 0) {
    Model model(config, dtype, stream.device);
    initialise(model.parameters(), 7);
    if (noise) {
        Tensor& weights = model.parameters().values();
        const Tensor factors = test::random_tensor({weights.count()}, DType::float32, noise, 1 - 2e-6, 1 + 2e-6);
        for (std::int64_t i = 0; i < weights.count(); ++i) weights.data<float>()[i] *= factors.data<float>()[i];
    }
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

struct GradientError {
    double whole, worst;  // 2-norms, relative: of all tensors together, and the largest of one
    std::string where;
};

GradientError error_of(const std::vector<NamedTensor>& gradients, const std::vector<NamedTensor>& expected) {
    double error = 0, norm = 0;
    GradientError out{0, 0, ""};
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const auto [e, n] = squares(gradients[i].tensor, expected[i].tensor);
        error += e;
        norm += n;
        // The bias of a convolution in front of a group norm has next to no gradient of its own.
        if (n > 1e-12 && std::sqrt(e / n) > out.worst) {
            out.worst = std::sqrt(e / n);
            out.where = expected[i].name;
        }
    }
    out.whole = std::sqrt(error / norm);
    return out;
}

// The first losses come from the same weights; those of the second step have felt a gradient. seed: of views at which
// the gradient is smooth. At many others a value of the deepest layers lies so near to zero that a rounding moves it to
// the other side of LeakyReLU, and 3 % of a gradient with it: there nobody's gradients could be compared.
void compare_steps(const ModelConfig& config, std::int64_t side, std::int64_t batch, std::uint32_t seed) {
    const Views views = random_views(config.spatial_dims, side, batch, seed);
    const TwoSteps cpu = two_steps(config, views, test::cpu_stream());
    for (const std::uint32_t noise : {1, 2, 3}) {
        const TwoSteps moved = two_steps(config, views, test::cpu_stream(), DType::float32, noise);
        const GradientError error = error_of(moved.gradients, cpu.gradients);
        CHECK_MESSAGE((error.worst <= 5e-3 && error.whole <= 1e-3),
                      "weights that are off by 2e-6 move the CPU's own gradient of ", error.where, " by ", error.worst,
                      " and the whole by ", error.whole, ": take views of another seed");
    }
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
        const GradientError error = error_of(other.gradients, cpu.gradients);
        CHECK_MESSAGE(error.worst <= 1e-2, name_of(device), ": gradient of ", error.where, " is off by ", error.worst);
        CHECK_MESSAGE(error.whole <= 2e-3, name_of(device), ": the gradient is off by ", error.whole);
        release_unused_memory(device);
        if (config.channels[8] != 8) continue;  // the small networks are enough for the same bits twice
        const TwoSteps again = two_steps(config, views, *test::device_stream(device, 1));
        CHECK(again.results[1].loss == other.results[1].loss);
        CHECK(again.results[1].grad_norm == other.results[1].grad_norm);
    }
}

// The losses that a run's log holds, step after step.
std::vector<double> losses_of(const std::string& run_folder) {
    std::istringstream log(read_file(run_folder + "/log.jsonl"));
    std::vector<double> losses;
    for (std::string line; std::getline(log, line);) {
        const auto event = nlohmann::json::parse(line);
        if (event.at("event") == "step") losses.push_back(event.at("loss"));
    }
    return losses;
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

TEST_CASE("device: steps behind the first take no new memory") {
    const ModelConfig config = uneven_channels(2);
    for (const Device device : devices()) {
        Stream& stream = *test::device_stream(device);
        Model model(config, DType::float32, device);
        initialise(model.parameters(), 7);
        Optimizer optimizer(model.parameters(), {});
        std::vector<std::size_t> held;
        for (std::uint32_t step = 0; step < 4; ++step) {
            Views views = random_views(2, 16, 1, 1 + 2 * step);
            for (Tensor* tensor : {&views.images, &views.field, &views.mask}) *tensor = tensor->to(device);
            train_step(model, optimizer, views, LossTerms::both, 1e-3, stream);
            held.push_back(memory_statistics(device).held);
        }
        // With COVER_ARENA=off that is what lives between steps.
        CHECK_MESSAGE((held[1] == held[0] && held[3] == held[0]), name_of(device), ": ", held[0], " bytes, then ",
                      held[1], " and ", held[3]);
    }
}

TEST_CASE("device: a run is the same run with one allocation for each tensor") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/patches.h5", 24);
    for (const std::string arena : {"on", "off"}) {
        const test::Outcome outcome = test::run_program(folder,
                                                        "pretrain --data %d/patches.h5 --patch 16 --batch 1 --channels "
                                                        "8,8,8,8,8,8,8,8,8 --device emulated --holdout "
                                                        "0 --steps 1 --out %d/" +
                                                            arena,
                                                        "COVER_ARENA=" + arena);
        CHECK_MESSAGE(outcome.code == 0, arena, "\n", outcome.err);
    }
    CHECK(read_file(folder.path() + "/on/model.safetensors") == read_file(folder.path() + "/off/model.safetensors"));
}

TEST_CASE("device: two steps of the default network agree with the CPU, 2D") { compare_steps({}, 32, 2, 2); }

TEST_CASE("device: two steps of the default network agree with the CPU, 3D") {
    ModelConfig config;
    config.spatial_dims = 3;
    compare_steps(config, 16, 1, 1);
}

TEST_CASE("device: two steps of a network with uneven channels agree with the CPU") {
    compare_steps(uneven_channels(2), 32, 2, 9);
    compare_steps(uneven_channels(3), 16, 1, 1);
}

TEST_CASE("device: two steps with bfloat16 features are finite, close to the CPU's in float32, and the same twice") {
    const ModelConfig config = uneven_channels(2);
    const Views views = random_views(2, 32, 1);
    const TwoSteps cpu = two_steps(config, views, test::cpu_stream());
    for (const Device device : devices()) {
        const TwoSteps half = two_steps(config, views, *test::device_stream(device), DType::bfloat16);
        for (int step = 0; step < 2; ++step) {
            const StepResult &a = half.results[step], &b = cpu.results[step];
            const std::string at = text(name_of(device), ", step ", step, ": ");
            CHECK_MESSAGE(a.finite(), at);
            // As the golden numbers in bfloat16; the second step has felt a rounded gradient.
            const double allowed = step == 0 ? 2e-2 : 5e-2;
            CHECK_MESSAGE(std::abs(a.loss_vec - b.loss_vec) <= allowed * std::max(1.0, b.loss_vec), at, a.loss_vec,
                          ", ", b.loss_vec);
            CHECK_MESSAGE(std::abs(a.loss_con - b.loss_con) <= allowed, at, a.loss_con, ", ", b.loss_con);
            // The mask and the true field are float32 in either.
            CHECK_MESSAGE(std::abs(a.loss_vec_zero - b.loss_vec_zero) <= 1e-5 * b.loss_vec_zero, at);
            CHECK_MESSAGE(a.loss != b.loss, at, "nothing was rounded");
        }
        for (const NamedTensor& gradient : half.gradients) REQUIRE(gradient.tensor.dtype() == DType::float32);
        const GradientError error = error_of(half.gradients, cpu.gradients);
        CHECK_MESSAGE(error.whole <= 0.3, name_of(device), ": the gradient is off by ", error.whole);
        const TwoSteps again = two_steps(config, views, *test::device_stream(device, 1), DType::bfloat16);
        CHECK(again.results[1].loss == half.results[1].loss);
        CHECK(again.results[1].grad_norm == half.results[1].grad_norm);
    }
}

TEST_CASE("device: a run on the emulated device, stopped and resumed, ends with the same bits; it evaluates") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/patches.h5", 24);
    const auto run = [&](const std::string& arguments) {
        const test::Outcome outcome = test::run_program(folder, arguments);
        CHECK_MESSAGE(outcome.code == 0, arguments, "\n", outcome.err);
        return outcome.out;
    };
    std::string other;
    for (const std::string precision : {"fp32", "bf16"}) {
        const std::string common =
            "pretrain --data %d/patches.h5 --patch 16 --batch 2 --channels 8,8,8,8,8,8,8,8,8 --device emulated "
            "--holdout 0 --precision " +
            precision + " ";
        const std::string whole = "/whole-" + precision, parts = "/parts-" + precision;
        run(common + "--steps 4 --out %d" + whole);
        run(common + "--steps 2 --out %d" + parts);
        run("pretrain --steps 4 --out %d" + parts + " --resume --device emulated");
        const std::string weights = read_file(folder.path() + whole + "/model.safetensors");
        CHECK(weights == read_file(folder.path() + parts + "/model.safetensors"));
        CHECK(weights != other);
        other = weights;
        for (const std::string file : {"/manifest.json", "/checkpoints/step-0000004/manifest.json", "/config.toml"})
            CHECK_MESSAGE(read_file(folder.path() + parts + file).find("\"" + precision + "\"") != std::string::npos,
                          file);
        run("evaluate --weights %d" + whole + " --data %d/patches.h5 --pairs 2 --device emulated --precision " +
            precision);
    }
    const test::Outcome resumed =
        test::run_program(folder, "pretrain --steps 6 --out %d/parts-bf16 --resume --device emulated --precision fp32");
    CHECK(resumed.code == 3);
    CHECK_MESSAGE(resumed.err.find("precision") != std::string::npos, resumed.err);
    // The views of these steps were made on the device, from images uploaded beside the step before.
    run("pretrain --data %d/patches.h5 --patch 16 --batch 2 --channels 8,8,8,8,8,8,8,8,8 --holdout 0 --device cpu "
        "--steps 4 --out %d/cpu");
    const auto losses = losses_of(folder.path() + "/whole-fp32"), expected = losses_of(folder.path() + "/cpu");
    REQUIRE(losses.size() == 4);
    REQUIRE(expected.size() == 4);
    for (std::size_t i = 0; i < 4; ++i)
        CHECK_MESSAGE(std::abs(losses[i] - expected[i]) <= 1e-4 * std::max(1.0, expected[i]), "step ", i, ": ",
                      losses[i], ", on the CPU ", expected[i]);
}

// Training is chaotic: at a rate of 1e-4 two instruction sets of the CPU part by 1e-3 to 2e-2 within these twenty steps
// (Adam turns the sign of a gradient near zero into a whole step). At 1e-5 they stay within 1e-4, and so must a device.
TEST_CASE("gpu: twenty steps from the same weights lose what the CPU loses") {
    Stream* cuda = cuda_stream_or_skip();
    if (!cuda) return;
    const auto losses = [](Stream& stream, double lr) {
        Model model({}, DType::float32, stream.device);
        initialise(model.parameters(), 7);
        Optimizer optimizer(model.parameters(), {});
        std::vector<double> out;
        for (std::uint32_t step = 0; step < 20; ++step) {
            Views views = random_views(2, 64, 2, 100 + 2 * step);
            for (Tensor* tensor : {&views.images, &views.field, &views.mask}) *tensor = tensor->to(stream.device);
            out.push_back(train_step(model, optimizer, views, LossTerms::both, lr, stream).loss);
        }
        return out;
    };
    const auto largest_difference = [](const std::vector<double>& a, const std::vector<double>& b) {
        double worst = 0;
        for (std::size_t step = 0; step < a.size(); ++step)
            worst = std::max(worst, std::abs(a[step] - b[step]) / b[step]);
        return worst;
    };
    const std::vector<double> cpu = losses(test::cpu_stream(16), 1e-5), gpu = losses(*cuda, 1e-5);
    const double worst = largest_difference(gpu, cpu);
    CHECK_MESSAGE(worst <= 1e-3, "the losses part by ", worst, " of their size within 20 steps");
    CHECK(gpu.back() < gpu.front());
    CHECK_MESSAGE(losses(*cuda, 1e-5) == gpu, "the same twenty steps gave other bits");
    MESSAGE("20 steps, largest difference of a loss from the CPU's: ", worst, " at a rate of 1e-5, ",
            largest_difference(losses(*cuda, 1e-4), losses(test::cpu_stream(16), 1e-4)), " at 1e-4 (not tested)");
}

TEST_CASE("gpu: a run on the device, stopped and resumed, ends with the same bits; a second run too") {
    if (!cuda_stream_or_skip()) return;
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/patches.h5", 48);
    const auto run = [&](const std::string& arguments) {
        const test::Outcome outcome = test::run_program(folder, arguments);
        CHECK_MESSAGE(outcome.code == 0, arguments, "\n", outcome.err);
    };
    const std::string common = "pretrain --data %d/patches.h5 --patch 32 --batch 2 --device cuda --holdout 0 ";
    for (const std::string precision : {"fp32", "tf32", "bf16"}) {
        const std::string here = "/" + precision + "-", settings = common + "--precision " + precision + " ";
        run(settings + "--steps 6 --out %d" + here + "whole");
        run(settings + "--steps 6 --out %d" + here + "again");
        run(settings + "--steps 3 --out %d" + here + "parts");
        run(settings + "--steps 6 --out %d" + here + "parts --resume");
        const std::string weights = read_file(folder.path() + here + "whole/model.safetensors");
        CHECK_MESSAGE(weights == read_file(folder.path() + here + "again/model.safetensors"), precision);
        CHECK_MESSAGE(weights == read_file(folder.path() + here + "parts/model.safetensors"), precision);
        run("evaluate --weights %d" + here + "whole --data %d/patches.h5 --pairs 2 --device cuda --precision " +
            precision);
    }
}

TEST_CASE("device: bfloat16 where there are no rows of it is a sentence and exit code 5") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/patches.h5", 24);
    for (const std::string command :
         {"pretrain --data %d/patches.h5 --out %d/run --steps 1 --patch 16", "bench step --patch 16",
          "verify golden " COVER_SOURCE_DIR "/tests/golden/cover2d_amp3.h5"}) {
        const test::Outcome outcome = test::run_program(folder, command + " --device cpu --precision bf16");
        CHECK_MESSAGE(outcome.code == 5, command, "\n", outcome.err);
        CHECK_MESSAGE(outcome.err.find("no such kernels for cpu yet") != std::string::npos, outcome.err);
    }
    CHECK(test::run_program(folder, "bench step --patch 16 --device emulated --precision fp64").code == 5);
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
