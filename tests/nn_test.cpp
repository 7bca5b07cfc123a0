// Parameters, initial weights, optimizer, schedule and the trainer on a tiny problem.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "cover/trainer.h"
#include "nn/init.h"
#include "nn/schedule.h"
#include "tests/support.h"

namespace cover {
namespace {

ModelConfig small_model(int dims) {
    return {.spatial_dims = dims,
            .in_channels = 1,
            .channels = {8, 8, 16, 16, 24, 16, 16, 8, 8},
            .head_dim = 4,
            .heads = {2, 2, 2, 1, 1},
            .radius = 2};
}

TrainConfig tiny_run(int dims) {
    TrainConfig config;
    config.dims = dims;
    config.in_channels = 1;
    config.channels = {8, 8, 16, 16, 24, 16, 16, 8, 8};
    config.head_dim = 4;
    config.heads = {2, 2, 2, 1, 1};
    const std::int64_t side = dims == 2 ? 32 : 16;
    config.patch = {dims == 3 ? side : 1, side, side};
    config.batch = 2;
    config.steps = 60;
    config.degree = 0.25;
    complete_config(config, {dims, 1, {dims == 3 ? 24 : 1, dims == 2 ? 48 : 24, dims == 2 ? 48 : 24}, 2});
    return config;
}

Tensor smooth_images(int dims) {
    const std::int64_t side = dims == 2 ? 48 : 24, depth = dims == 3 ? side : 1;
    Tensor images = Tensor::empty({2, depth, side, side, 1});
    std::int64_t i = 0;
    for (int b = 0; b < 2; ++b)
        for (std::int64_t d = 0; d < depth; ++d)
            for (std::int64_t h = 0; h < side; ++h)
                for (std::int64_t w = 0; w < side; ++w)
                    images.data<float>()[i++] = static_cast<float>(
                        0.5 +
                        0.2 * std::sin(0.5 * static_cast<double>(h) + b) * std::cos(0.37 * static_cast<double>(w)) +
                        0.2 * std::sin(0.21 * static_cast<double>(h + d) - 0.6 * static_cast<double>(w)));
    return images;
}

}  // namespace

TEST_CASE("nn: the default network has the paper's size and the authors' names") {
    const Model model({});
    CHECK(model.parameters().trained_count() == 7881712);
    CHECK(model.parameters().list().size() == 92);
    const auto file = model.to_file();
    CHECK(file.size() == 93);
    const auto shape_of = [&](const std::string& name) {
        for (const NamedTensor& t : file)
            if (t.name == name) return t.tensor.shape().to_string();
        return std::string("absent");
    };
    CHECK(shape_of("backbone.inc.double_conv.0.weight") == "(32, 1, 3, 3)");
    CHECK(shape_of("backbone.down1.maxpool_conv.1.double_conv.4.bias") == "(64,)");
    CHECK(shape_of("backbone.up4.conv.double_conv.3.weight") == "(32, 32, 3, 3)");
    CHECK(shape_of("backbone.up1.conv.double_conv.0.weight") == "(256, 768, 3, 3)");
    CHECK(shape_of("proj.0.proj.weight") == "(32, 512, 1, 1)");
    CHECK(shape_of("proj.4.norm.weight") == "(8,)");
    CHECK(shape_of("mov.grid") == "(5, 5, 2)");
    ModelConfig volume;
    volume.spatial_dims = 3;
    const Model model3(volume);
    CHECK(model3.to_file().back().tensor.shape() == Shape{5, 5, 5, 3});
    CHECK(model.to_file(true).size() == 72);
}

TEST_CASE("nn: initial weights follow their distributions and depend on the seed alone") {
    Model model({});
    initialise(model.parameters(), 3);
    const auto& list = model.parameters().list();
    for (std::size_t i = 0; i < list.size(); ++i) {
        const Tensor value = model.parameters().value(static_cast<int>(i));
        const float* v = value.data<float>();
        double sum = 0, squares = 0, largest = 0;
        for (std::int64_t e = 0; e < value.count(); ++e) {
            sum += v[e];
            squares += static_cast<double>(v[e]) * v[e];
            largest = std::max(largest, std::abs(static_cast<double>(v[e])));
        }
        const double count = static_cast<double>(value.count()), fan_in = static_cast<double>(list[i].fan_in);
        const double deviation = std::sqrt(squares / count);
        if (list[i].kind == ParameterKind::norm_weight) CHECK(sum == count);
        if (list[i].kind == ParameterKind::norm_bias) CHECK(largest == 0);
        if (list[i].kind == ParameterKind::conv_bias) CHECK(largest <= 1 / std::sqrt(fan_in));
        if (list[i].kind == ParameterKind::conv_weight && value.count() > 9000) {
            const bool projection = list[i].shape[2] == 1;
            const double expected = projection ? 1 / std::sqrt(3 * fan_in) : std::sqrt(2 / fan_in);
            CHECK_MESSAGE(deviation == doctest::Approx(expected).epsilon(0.03), list[i].name);
            CHECK(std::abs(sum / count) < 4 * expected / std::sqrt(count));
            if (projection) CHECK(largest <= 1 / std::sqrt(fan_in));
        }
    }
    Model again({}), other({});
    initialise(again.parameters(), 3);
    initialise(other.parameters(), 4);
    const auto bytes = model.parameters().values().bytes();
    CHECK(std::memcmp(std::as_const(model.parameters()).values().view().data,
                      std::as_const(again.parameters()).values().view().data, bytes) == 0);
    CHECK(std::memcmp(std::as_const(model.parameters()).values().view().data,
                      std::as_const(other.parameters()).values().view().data, bytes) != 0);
}

TEST_CASE("nn: weights survive the authors' layout, and each misfit is named") {
    for (const int dims : {2, 3}) {
        Model model(small_model(dims)), copy(small_model(dims));
        initialise(model.parameters(), 1);
        auto file = model.to_file();
        copy.load(file, "test");
        CHECK(std::memcmp(std::as_const(model.parameters()).values().view().data,
                          std::as_const(copy.parameters()).values().view().data,
                          model.parameters().values().bytes()) == 0);
        // Element (o, i, taps) of the file is (taps, i, o) in memory.
        const Tensor inside = model.parameters().value(8), outside = file[8].tensor;
        REQUIRE(inside.shape().rank() == 5);
        const std::int64_t c_in = inside.side(3), c_out = inside.side(4), taps = inside.count() / c_in / c_out;
        CHECK(inside.data<float>()[((taps - 1) * c_in + 2) * c_out + 5] ==
              std::as_const(outside).data<float>()[(5 * c_in + 2) * taps + taps - 1]);

        file[0].name = "backbone.wrong";
        file[3].tensor = Tensor::zeros({7});
        try {
            copy.load(file, "weights.safetensors");
            FAIL("a misfit was accepted");
        } catch (const Error& error) {
            const std::string what = error.what();
            CHECK(error.kind() == ErrorKind::data);
            CHECK(what.find("weights.safetensors") != std::string::npos);
            CHECK(what.find("missing: backbone.inc.double_conv.0.weight") != std::string::npos);
            CHECK(what.find("unexpected: backbone.wrong") != std::string::npos);
            CHECK(what.find("of another shape: backbone.inc.double_conv.1.bias (7,) instead of (8,)") !=
                  std::string::npos);
        }
    }
}

TEST_CASE("nn: the architecture survives the metadata, and a bad entry is named") {
    ModelConfig config = small_model(3);
    config.warp = WarpConvention::reference;
    config.levels = 3;
    auto metadata = to_metadata(config);
    CHECK(from_metadata(metadata, "x") == config);
    metadata["heads"] = "4,4,x,1,1";
    CHECK_THROWS_WITH_AS(from_metadata(metadata, "x"), doctest::Contains("heads"), Error);
    for (const auto& [key, word] :
         {std::pair{"channels", "9,8,8,8,8,8,8,8,8"}, std::pair{"channels", "8,8,8,8,800000,8,8,8,8"},
          std::pair{"heads", "4,4,2000,1,1"}, std::pair{"radius", "65"}, std::pair{"levels", "6"}}) {
        auto absurd = to_metadata(config);
        absurd[key] = word;
        try {
            from_metadata(absurd, "x");
            FAIL("accepted " << key << " " << word);
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::data);
            CHECK(std::string(error.what()).find(key) != std::string::npos);
        }
    }
    metadata.erase("heads");
    CHECK_THROWS_WITH_AS(from_metadata(metadata, "x"), doctest::Contains("heads"), Error);
}

TEST_CASE("nn: fewer levels up-sample and double a coarser field; reach is 31 radius") {
    for (const int levels : {1, 2, 3, 4, 5}) {
        ModelConfig config = small_model(2);
        config.levels = levels;
        Model model(config);
        initialise(model.parameters(), 2);
        Graph graph(test::cpu_stream(), 2, Graph::Retention::nothing);
        const auto prediction =
            model.predict(graph, graph.constant(test::random_tensor({2, 1, 32, 48, 1}, DType::float32, 5)));
        CHECK(prediction.field.shape() == Shape{1, 1, 32, 48, 2});
        TrainConfig run = tiny_run(2);
        run.levels = levels;
        // Levels at 1/16, 1/8, ... give 16, 8, ... pixels for each pixel of radius.
        const double expected[] = {32, 48, 56, 60, 62};
        CHECK(pyramid_reach(run) == expected[levels - 1]);
    }
}

TEST_CASE("nn: a side that is no multiple of 16 is refused with a sentence") {
    Model model(small_model(2));
    Graph graph(test::cpu_stream(), 2, Graph::Retention::nothing);
    CHECK_THROWS_WITH_AS(model.features(graph, graph.constant(Tensor::zeros({1, 1, 32, 40, 1}))),
                         doctest::Contains("multiples of 16"), Error);
}

TEST_CASE("nn: the schedule") {
    CHECK(learning_rate(1e-4, false, 0, 7, 10) == 1e-4);
    CHECK(learning_rate(1e-4, true, 0, 0, 10) == 1e-4);
    CHECK(learning_rate(1e-4, true, 0, 5, 10) == doctest::Approx(0.5e-4));
    CHECK(learning_rate(1e-4, true, 0, 9, 10) == doctest::Approx(1e-4 * (1 + std::cos(0.9 * std::numbers::pi)) / 2));
    CHECK(learning_rate(1e-4, false, 4, 0, 10) == doctest::Approx(0.25e-4));
    CHECK(learning_rate(1e-4, false, 4, 3, 10) == 1e-4);
    CHECK(learning_rate(1e-4, false, 4, 4, 10) == 1e-4);
}

TEST_CASE("nn: the gradient is clipped before the decay is added") {
    ParameterSet parameters(2);
    parameters.add_vector("a", ParameterKind::norm_weight, 8);
    parameters.allocate(DType::float64);
    for (int i = 0; i < 8; ++i) {
        parameters.values().data<double>()[i] = 10;
        parameters.gradients().data<double>()[i] = 3;
    }
    Optimizer optimizer(parameters, {.adam = false, .momentum = 0, .weight_decay = 0.1, .clip = 1});
    optimizer.schedule(0.5);
    optimizer.enqueue(parameters, Tensor::zeros({1}, DType::float64), test::cpu_stream());
    optimizer.count_step();
    CHECK(optimizer.steps() == 1);
    const double norm = std::sqrt(optimizer.sum_of_squares().item());
    CHECK(norm == doctest::Approx(3 * std::sqrt(8.0)));
    const double expected = 10 - 0.5 * (3 / (norm + 1e-6) + 0.1 * 10);
    for (int i = 0; i < 8; ++i)
        CHECK(parameters.values().data<double>()[i] == doctest::Approx(expected).epsilon(1e-12));
}

TEST_CASE("nn: a network overfits one batch, 2D and 3D, and equal runs are equal for any number of threads") {
    for (const int dims : {2, 3}) {
        const TrainConfig config = tiny_run(dims);
        const Tensor images = smooth_images(dims);
        const std::vector<SampleKey> keys{{0, 0}, {0, 1}};
        Trainer one(config, test::cpu_stream(1)), three(config, test::cpu_stream(3));
        double first = 0, last = 0;
        for (int step = 0; step < config.steps; ++step) {
            const StepRecord record = one.step(images, keys);
            REQUIRE_FALSE(record.skipped);
            if (step == 0) first = record.result.loss;
            last = record.result.loss;
            if (step < 3) {
                const StepRecord other = three.step(images, keys);
                CHECK(other.result.loss == record.result.loss);
                CHECK(other.result.grad_norm == record.result.grad_norm);
            }
        }
        CHECK_MESSAGE(last < 0.7 * first, dims, "D: from ", first, " to ", last);
    }
}

TEST_CASE("nn: a batch without a valid pixel changes nothing and is counted") {
    TrainConfig config = tiny_run(2);
    config.translation = 1e6;
    Trainer trainer(config, test::cpu_stream());
    const Tensor before = std::as_const(trainer).model().parameters().values().clone();
    const StepRecord record = trainer.step(smooth_images(2), {{0, 0}, {0, 1}});
    CHECK(record.skipped);
    CHECK(trainer.steps_skipped() == 1);
    CHECK(trainer.steps_done() == 1);
    CHECK(std::memcmp(before.view().data, std::as_const(trainer).model().parameters().values().view().data,
                      before.bytes()) == 0);
}

TEST_CASE("nn: values made again in the backward give the bits of values kept, in half the memory") {
    for (const int dims : {2, 3}) {
        ModelConfig config = small_model(dims);
        const Shape shape{2, dims == 3 ? 16 : 1, 32, 32, 1};
        const Shape field_shape{1, shape[1], 32, 32, dims}, mask_shape{1, shape[1], 32, 32, 1};
        const Tensor images = test::random_tensor(shape, DType::float32, 3);
        const Tensor field = test::random_tensor(field_shape, DType::float32, 4);
        Tensor mask = Tensor::empty(mask_shape);
        mask.fill(1);
        Tensor gradients[2];
        std::size_t peaks[2];
        for (const Graph::Retention retention : {Graph::Retention::values, Graph::Retention::recipes}) {
            Model model(config);
            initialise(model.parameters(), 2);
            model.parameters().zero_gradients();
            const std::size_t before = memory_statistics().in_use;
            reset_memory_peak();
            Stream stream = test::cpu_stream();
            stream.fuse = false;  // tests/fusion_test.cpp has what is left pending
            Graph graph(stream, dims, retention);
            Var total;
            {
                const auto prediction = model.predict(graph, graph.constant(images));
                total = losses(graph, prediction, field, mask, config.warp, LossTerms::both).total;
            }
            graph.backward(total);
            const bool again = retention == Graph::Retention::recipes;
            peaks[again] = memory_statistics().peak - before;
            gradients[again] = model.parameters().gradients();
        }
        const auto bytes = [](const Tensor& t) {
            return std::string(reinterpret_cast<const char*>(t.data<float>()), t.bytes());
        };
        CHECK(bytes(gradients[0]) == bytes(gradients[1]));
        CHECK_MESSAGE(static_cast<double>(peaks[1]) < 0.65 * static_cast<double>(peaks[0]), dims, "D: ", peaks[1],
                      " of ", peaks[0]);
    }
}

TEST_CASE("nn: the memory estimate holds and is not wasteful") {
    for (const int dims : {2, 3}) {
        TrainConfig config;
        config.dims = dims;
        config.in_channels = 1;
        const std::int64_t side = dims == 2 ? 64 : 16;
        config.patch = {dims == 3 ? side : 1, side, side};
        config.batch = 2;
        config.steps = 1;
        config.degree = 0.25;
        const std::int64_t longest = side * 3 / 2;
        const std::array<std::int64_t, 3> stored{dims == 3 ? longest : 1, longest, longest};
        complete_config(config, {dims, 1, stored, 2});
        release_unused_memory();
        const std::size_t before = memory_statistics().in_use;
        reset_memory_peak();
        Trainer trainer(config, test::cpu_stream());
        trainer.step(test::random_tensor({2, stored[0], stored[1], stored[2], 1}, DType::float32, 8, 0, 1),
                     {{0, 0}, {0, 1}});
        const std::size_t used = memory_statistics().peak - before;
        const std::size_t estimate = estimate_memory(config, stored);
        CHECK_MESSAGE(used <= estimate, dims, "D: used ", used, ", estimated ", estimate);
        CHECK_MESSAGE(static_cast<double>(estimate) <= 1.6 * static_cast<double>(used), dims, "D: used ", used,
                      ", estimated ", estimate);
        CHECK(largest_batch(config, stored, estimate) == 2);
        CHECK(largest_batch(config, stored, estimate - 1) == 1);
        CHECK(largest_batch(config, stored, 1000) == 0);
        config.batch = 1 << 20;
        CHECK(largest_batch(config, stored, estimate) == 2);
        config.batch = 2;
        config.heads = {1024, 1024, 1024, 1024, 1024};
        CHECK(estimate_memory(config, stored) > 3 * estimate);
        config.heads = TrainConfig().heads;
        // Two copies of the image and its field: what larger stored images cost.
        const std::array<std::int64_t, 3> larger{stored[0], stored[1], 100 * stored[2]};
        const auto added = static_cast<std::size_t>(2 * 99 * stored[0] * stored[1] * stored[2]) * sizeof(float);
        CHECK(estimate_memory(config, larger) >= estimate + 2 * added);
    }
}

}  // namespace cover
