#include <cstdlib>

#include "app/config.h"
#include "core/check.h"
#include "core/file.h"
#include "core/nearest.h"
#include "tests/support.h"

namespace cover::app {
namespace {

std::string written(const test::TemporaryFolder& folder, const std::string& toml) {
    const auto path = folder.path() + "/run.toml";
    write_file(path, toml);
    return path;
}

// Kind and sentence of what resolve_config throws; kind 0 when it does not.
std::pair<int, std::string> refusal(const ConfigSources& sources) {
    try {
        resolve_config(sources);
    } catch (const Error& error) {
        return {static_cast<int>(error.kind()), error.what()};
    }
    return {0, ""};
}

bool contains(const std::string& sentence, const std::string& part) {
    const bool found = sentence.find(part) != std::string::npos;
    if (!found) MESSAGE("'", sentence, "' does not say '", part, "'");
    return found;
}

}  // namespace

TEST_CASE("config: defaults < preset < file < --set < option") {
    const test::TemporaryFolder folder;
    CHECK(resolve_config({}).lr == 1e-4);
    CHECK(resolve_config({"", {}, {{"preset", {"code"}}}}).lr == 9.375e-6);
    const auto file = written(folder, "preset = \"code\"\nlr = 0.5\nclip = 2\n");
    CHECK(resolve_config({file, {}, {}}).lr == 0.5);
    CHECK(resolve_config({file, {}, {}}).degree == 1.5);
    CHECK(resolve_config({file, {"lr=0.25"}, {}}).lr == 0.25);
    CHECK(resolve_config({file, {"lr=0.25"}, {{"lr", {"0.125"}}}}).lr == 0.125);
    CHECK(resolve_config({file, {"lr=0.25"}, {{"lr", {"0.125"}}}}).clip == 2);
    // The preset of the highest source is the one that counts, and it stands below the whole file.
    const auto config = resolve_config({file, {}, {{"preset", {"paper"}}}});
    CHECK(config.preset == Preset::paper);
    CHECK(config.optimizer == OptimizerKind::sgd);
    CHECK(config.steps == 200000);
    CHECK(config.lr == 0.5);
}

TEST_CASE("config: presets hold what the specification says") {
    DataFacts plane{2, 1, {1, 576, 576}, 120};
    auto code = resolve_config({"", {}, {{"preset", {"code"}}}});
    complete_config(code, plane);
    CHECK(code.optimizer == OptimizerKind::adam);
    CHECK(code.patch == std::array<std::int64_t, 3>{1, 384, 384});
    CHECK(code.batch == 24);
    CHECK(code.steps == 500);  // 100 epochs of 120 images, 24 at a time
    CHECK(code.degree == 1.5);
    CHECK(code.warp == WarpConvention::exact);
    CHECK(!code.batch_shared_augmentation);

    DataFacts volume{3, 1, {96, 80, 64}, 10};
    auto paper = resolve_config({"", {}, {{"preset", {"paper"}}}});
    complete_config(paper, volume);
    CHECK(paper.momentum == 0.9);
    CHECK(paper.lr == 1e-4);
    CHECK(paper.batch == 2);
    CHECK(paper.patch == std::array<std::int64_t, 3>{64, 48, 32});
}

TEST_CASE("config: what follows from the data") {
    TrainConfig config;
    complete_config(config, {2, 3, {1, 96, 192}, 5});
    CHECK(config.dims == 2);
    CHECK(config.in_channels == 3);
    CHECK(config.patch == std::array<std::int64_t, 3>{1, 64, 128});
    CHECK(config.batch == 24);
    CHECK(config.steps == 1000);
    CHECK(config.degree == 1.5);
    CHECK(config.rotation == 20);
    CHECK(config.shear == 5.625);

    TrainConfig volume = resolve_config({"", {"patch=32"}, {}});
    complete_config(volume, {3, 1, {48, 64, 96}, 5});
    CHECK(volume.patch == std::array<std::int64_t, 3>{32, 32, 32});
    CHECK(volume.degree == 1);
    CHECK(volume.scale == 0.25);
    CHECK(pyramid_reach(volume) == 62);
    volume.levels = 3;
    CHECK(pyramid_reach(volume) == 56);

    const auto refused = [](const char* setting, const DataFacts& facts) {
        TrainConfig c = resolve_config({"", {setting}, {}});
        try {
            complete_config(c, facts);
        } catch (const Error& error) {
            return error.kind() == ErrorKind::configuration;
        }
        return false;
    };
    const DataFacts facts{2, 1, {1, 96, 96}, 5};
    CHECK(!refused("patch=96", facts));
    CHECK(refused("patch=112", facts));
    CHECK(refused("patch=40", facts));
    CHECK(refused("patch=32x32x32", facts));
    CHECK(refused("dims=3", facts));
    CHECK(refused("in_channels=3", facts));
    CHECK(refused("degree=2", facts));  // a scale of zero
    CHECK(!refused("degree=1.99", facts));
}

TEST_CASE("config: a wrong key or value exits 3 and names the nearest") {
    const test::TemporaryFolder folder;
    auto [kind, sentence] = refusal({"", {"weight_decy=1"}, {}});
    CHECK(kind == 3);
    CHECK(contains(sentence, "weight_decay"));
    std::tie(kind, sentence) = refusal({written(folder, "moments = 1\n"), {}, {}});
    CHECK(kind == 3);
    CHECK(contains(sentence, "momentum"));
    CHECK(contains(sentence, "run.toml"));
    std::tie(kind, sentence) = refusal({written(folder, "[training]\nlr = 1\n"), {}, {}});
    CHECK(kind == 3);
    std::tie(kind, sentence) = refusal({written(folder, "lr = = 1\n"), {}, {}});
    CHECK(kind == 3);
    CHECK(contains(sentence, "line 1"));
    std::tie(kind, sentence) = refusal({folder.path() + "/none.toml", {}, {}});
    CHECK(kind == 7);
    std::tie(kind, sentence) = refusal({"", {"optimizer=adm"}, {}});
    CHECK(kind == 3);
    CHECK(contains(sentence, "'adam'"));
    // The same slip in an option is a usage error.
    std::tie(kind, sentence) = refusal({"", {}, {{"optimizer", {"adm"}}}});
    CHECK(kind == 2);
    CHECK(contains(sentence, "--optimizer"));
    CHECK(refusal({"", {"lr"}, {}}).first == 3);
    CHECK(refusal({"", {"lr=fast"}, {}}).first == 3);
    for (const char* setting : {"lr=0",
                                "lr=nan",
                                "lr=-1",
                                "steps=0",
                                "steps=1.5",
                                "batch=0",
                                "channels=32,64",
                                "channels=32,64,128,256,512,256,128,64,12",
                                "heads=1,1,1,1",
                                "heads=0,1,1,1,1",
                                "radius=0",
                                "levels=6",
                                "holdout=1",
                                "beta1=1",
                                "patch=0",
                                "patch=1x2x3x4",
                                "elastic=maybe",
                                "elastic_sigma_min=20",
                                "contrast_min=2",
                                "inpaint_probability=1.5",
                                "degree=-1",
                                "dims=4",
                                "kernel=conv",
                                "kernel=conv:no_such_row",
                                "kernel=no_such_op:ref",
                                "checkpoint_every=0",
                                "warmup=-1"}) {
        const int got = refusal({"", {setting}, {}}).first;
        CHECK_MESSAGE(got == 3, setting, " gives ", got);
    }
    CHECK(contains(refusal({"", {"kernel=conf:ref"}, {}}).second, "'conv'"));
}

TEST_CASE("config: config.toml gives the same configuration again, every key in it") {
    const test::TemporaryFolder folder;
    auto config = resolve_config(
        {"",
         {"momentum=0.8", "elastic=true", "channels=8,16,24,32,40,32,24,16,8", "kernel=conv:ref",
          "seed=18446744073709551615"},
         {{"data", {"a \"quoted\"\\path.h5", "b\n.h5"}}, {"warp", {"reference"}}, {"preset", {"paper"}}}});
    complete_config(config, {2, 1, {1, 384, 400}, 7});
    config.device = DeviceChoice::cpu;
    const auto toml = config_toml(config);
    const auto again = resolve_config({written(folder, toml), {}, {}});
    CHECK(config_toml(again) == toml);
    CHECK(again.data == config.data);
    CHECK(again.seed == config.seed);
    CHECK(again.patch == config.patch);
    CHECK(again.kernel == config.kernel);
    for (const auto& key : config_keys())
        CHECK_MESSAGE(toml.find("\n" + key.name + " = ") != std::string::npos, "config.toml lacks ", key.name);
}

TEST_CASE("config: a kernel family sets its backward tables too") {
    const auto config = resolve_config({"", {"kernel=conv:ref"}, {}});
    const auto selection = kernel_selection(config);
    CHECK(selection.rows.at("conv") == "ref");
    CHECK(selection.rows.at("conv_backward_data") == "ref");
    CHECK(selection.rows.at("conv_backward_weight") == "ref");
    CHECK(selection.rows.size() == 3);
}

TEST_CASE("nearest: distances and what is too far") {
    CHECK(edit_distance("", "abc") == 3);
    CHECK(edit_distance("kitten", "sitting") == 3);
    CHECK(edit_distance("bacth", "batch") == 1);
    CHECK(nearest("bacth", {"patch", "batch", "seed"}) == "batch");
    CHECK(nearest("zzzzzz", {"patch", "batch"}).empty());
    CHECK(nearest("x", {}).empty());
    CHECK(nearest_hint("zzzzzz", {"patch"}).empty());
}

TEST_CASE("files: written whole or not at all") {
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/file";
    write_file(path, "old");
    {
        AtomicFile file(path);
        file.write(std::string_view("new"));
    }
    CHECK(read_file(path) == "old");
    {
        AtomicFile file(path);
        file.write(std::string_view("new"));
        file.commit();
    }
    CHECK(read_file(path) == "new");
    CHECK_THROWS_AS(read_file(path, 2), Error);
    CHECK_THROWS_AS(read_file(folder.path() + "/none"), Error);
    CHECK_THROWS_AS(read_file(folder.path()), Error);
    try {
        write_file(folder.path() + "/no/such/folder", "x");
        FAIL("written");
    } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::io);
        CHECK(contains(error.what(), "no/such/folder"));
    }
    CHECK_THROWS_AS(create_folder(path + "/below-a-file"), Error);
}

}  // namespace cover::app
