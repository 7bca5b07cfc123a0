// The numerical guard: the tensor that went wrong first is named, whichever it is.
#include "cover/guard.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "cover/trainer.h"
#include "nn/init.h"
#include "tests/support.h"

namespace cover {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

ModelConfig small(int dims) {
    ModelConfig config;
    config.spatial_dims = dims;
    config.channels.assign(9, 8);
    return config;
}

Views random_views(int dims, std::int64_t batch) {
    const std::int64_t depth = dims == 3 ? 16 : 1;
    Views views;
    views.images = test::random_tensor({2 * batch, depth, 16, 16, 1}, DType::float32, 1);
    views.field = test::random_tensor({batch, depth, 16, 16, dims}, DType::float32, 2);
    views.mask = Tensor::empty({batch, depth, 16, 16, 1});
    views.mask.fill(1);
    return views;
}

int index_of(const Model& model, const std::string& name) {
    for (std::size_t i = 0; i < model.parameters().list().size(); ++i)
        if (model.parameters().list()[i].name == name) return static_cast<int>(i);
    FAIL("no parameter " << name);
    return -1;
}

}  // namespace

TEST_CASE("guard: the first tensor that is not finite is named with its layer and samples") {
    for (const int dims : {2, 3}) {
        Model model(small(dims));
        initialise(model.parameters(), 1);
        const Views views = random_views(dims, 3);
        CHECK_FALSE(find_non_finite(model, views, LossTerms::both, test::cpu_stream()).has_value());

        SUBCASE("a weight") {
            const std::string name = "backbone.down2.maxpool_conv.1.double_conv.3.weight";
            model.parameters().value(index_of(model, name)).data<float>()[5] = std::numeric_limits<float>::infinity();
            const auto found = find_non_finite(model, views, LossTerms::both, test::cpu_stream());
            REQUIRE(found.has_value());
            CHECK(found->place() == "weight in " + name);
            CHECK(found->samples.empty());
        }
        SUBCASE("an image") {
            Tensor images = views.images.clone();
            const std::int64_t part = images.count() / 6;
            images.data<float>()[4 * part + 7] = static_cast<float>(nan);  // the second view of sample 1
            const Views bad{images, views.field, views.mask};
            const auto found = find_non_finite(model, bad, LossTerms::both, test::cpu_stream());
            REQUIRE(found.has_value());
            CHECK(found->place() == "image");
            CHECK(found->samples == std::vector<std::int64_t>{1});
        }
        SUBCASE("an overflow on the way forward") {
            // Finite weights, finite images, and a sum that exceeds float32, in one sample alone.
            const int weight = index_of(model, "backbone.inc.double_conv.0.weight");
            model.parameters().value(weight).fill(1e30);
            Tensor images = views.images.clone();
            const std::int64_t part = images.count() / 6;
            for (std::int64_t i = 0; i < part; ++i) images.data<float>()[2 * part + i] = 1e30F;
            const Views bad{images, views.field, views.mask};
            const auto found = find_non_finite(model, bad, LossTerms::both, test::cpu_stream());
            REQUIRE(found.has_value());
            CHECK(found->place() == "output of conv in backbone.inc.double_conv.0");
            CHECK(found->samples == std::vector<std::int64_t>{2});
        }
        SUBCASE("an overflow on the way back") {
            // The last norm's scale makes the gradient of its input overflow while its output stays finite.
            const int gamma = index_of(model, "proj.0.norm.weight");
            model.parameters().value(gamma).fill(3e38);
            const auto found = find_non_finite(model, views, LossTerms::both, test::cpu_stream());
            REQUIRE(found.has_value());
            CHECK(found->layer.find("proj") != std::string::npos);
        }
    }
}

TEST_CASE("guard: a step whose numbers are not finite changes no weight and no moment") {
    TrainConfig config;
    config.dims = 2;
    config.in_channels = 1;
    config.channels.assign(9, 8);
    config.patch = {1, 16, 16};
    config.batch = 2;
    config.steps = 3;
    complete_config(config, {2, 1, {1, 24, 24}, 2});
    Trainer trainer(config, test::cpu_stream());
    const Tensor images = test::random_tensor({2, 1, 24, 24, 1}, DType::float32, 8, 0, 1);
    CHECK(trainer.step(images, {{0, 0}, {0, 1}}).result.finite());

    const auto bytes = [](const Tensor& t) {
        return std::string(static_cast<const char*>(static_cast<const void*>(t.data<float>())), t.bytes());
    };
    Tensor& values = trainer.model().parameters().values();
    values.data<float>()[0] = static_cast<float>(nan);
    const auto weights = bytes(values), first = bytes(trainer.optimizer().first_moment()),
               second = bytes(trainer.optimizer().second_moment());
    CHECK_FALSE(trainer.step(images, {{1, 0}, {1, 1}}).result.finite());
    CHECK(bytes(values) == weights);
    CHECK(bytes(trainer.optimizer().first_moment()) == first);
    CHECK(bytes(trainer.optimizer().second_moment()) == second);
    CHECK(trainer.optimizer().steps() == 1);
}

TEST_CASE("guard: a value far from its recent past is noticed, others are not") {
    SpreadMonitor monitor(41, 10);
    RandomStream random({.seed = 3});
    int noticed = 0;
    for (int i = 0; i < 500; ++i) noticed += monitor.add(5 + random.normal()).has_value();
    CHECK(noticed == 0);
    const auto outlier = monitor.add(30);
    REQUIRE(outlier.has_value());
    CHECK(outlier->median == doctest::Approx(5).epsilon(0.2));
    CHECK(outlier->spread == doctest::Approx(1).epsilon(0.5));
    CHECK_FALSE(monitor.add(nan).has_value());

    SUBCASE("a constant is no reason to be startled by rounding") {
        SpreadMonitor constant(41, 10);
        for (int i = 0; i < 50; ++i) CHECK_FALSE(constant.add(2 + 1e-6 * i).has_value());
        CHECK(constant.add(3).has_value());
    }
    SUBCASE("nothing is said before there is a past") {
        SpreadMonitor fresh(41, 10);
        for (int i = 0; i < 10; ++i) CHECK_FALSE(fresh.add(i % 2 ? 1e6 : 1).has_value());
    }
}

}  // namespace cover
