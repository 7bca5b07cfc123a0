// A run whose numbers overflow: what it says, what it leaves, and how it goes on.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/hash.h"
#include "data/h5_write.h"
#include "nn/safetensors.h"
#include "tests/run_program.h"

namespace cover {
namespace {

constexpr std::int64_t samples = 6, side = 24, wild = 3;

// Float images in [0, 1], but for one with finite values that no sum of products survives.
void write_images(const std::string& path) {
    Tensor images = test::random_tensor({samples, 1, side, side}, DType::float32, 1, 0, 1);
    for (std::int64_t i = 0; i < side * side; ++i)
        images.data<float>()[wild * side * side + i] = i % 2 ? 3e38F : -3e38F;
    H5Writer writer(path);
    writer.dataset("/images", H5Store::float32, {samples, 1, side, side}, images.data<float>());
    writer.commit();
}

const std::string network = "--channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --patch 16 --batch 2 --threads 1 ";

std::string weights_hash(const std::string& run) { return sha256_of_file(run + "/model.safetensors"); }

bool finite_weights(const std::string& run) {
    const auto file = read_safetensors(run + "/model.safetensors");
    return std::all_of(file.tensors.begin(), file.tensors.end(), [](const auto& t) { return t.tensor.all_finite(); });
}

std::string batch_file(const std::string& run) {
    for (const auto& entry : std::filesystem::directory_iterator(run))
        if (entry.path().filename().string().starts_with("nonfinite-step-")) return entry.path().string();
    return "";
}

}  // namespace

TEST_CASE(
    "non-finite step: the run stops with 6, names tensor, layer and sample, and its batch can be computed again") {
    const test::TemporaryFolder folder;
    write_images(folder.path() + "/data.h5");
    const std::string run = folder.path() + "/run";
    const auto stopped = test::run_program(folder, "pretrain --data %d/data.h5 --out %d/run --steps 12 " + network);
    CHECK(stopped.code == 6);
    CHECK_MESSAGE(stopped.err.find("sample 3") != std::string::npos, stopped.err);
    CHECK(stopped.err.find("cover verify batch") != std::string::npos);
    const auto events = test::events_of(run + "/log.jsonl", "nonfinite");
    REQUIRE(events.size() == 1);
    CHECK(events[0]["where"].get<std::string>().find("sample 3") != std::string::npos);
    CHECK(finite_weights(run));

    const std::string batch = batch_file(run);
    REQUIRE(!batch.empty());
    const auto again = test::run_program(folder, "verify batch " + batch + " --json");
    CHECK(again.code == 6);
    const auto report = nlohmann::json::parse(again.out);
    CHECK(report["samples"] == nlohmann::json::array({wild}));
    CHECK(report["step"] == events[0]["step"]);
    // In float64 the same numbers are in range.
    CHECK(test::run_program(folder, "verify batch " + batch + " --precision fp64").code == 0);
    // bfloat16 has the range of float32.
    CHECK(test::run_program(folder, "verify batch " + batch + " --device emulated --precision bf16").code == 6);
    CHECK(test::run_program(folder, "verify batch %d/data.h5").code == 4);

    // The same run may go on once it is told how.
    const auto resumed =
        test::run_program(folder, "pretrain --data %d/data.h5 --out %d/run --resume --on-nonfinite skip");
    CHECK_MESSAGE(resumed.code == 0, resumed.err);
}

TEST_CASE("non-finite step: skipped, the run ends well and is the same across a stop and resume") {
    const test::TemporaryFolder folder;
    write_images(folder.path() + "/data.h5");
    const std::string options = "--on-nonfinite skip --checkpoint-every 4 " + network;
    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/whole --steps 12 " + options).code == 0);
    const auto skipped = test::events_of(folder.path() + "/whole/log.jsonl", "skipped");
    CHECK(skipped.size() >= 2);  // 24 draws from 6 samples: the wild one comes four times, never twice in one step
    CHECK(finite_weights(folder.path() + "/whole"));

    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/two --steps 8 " + options).code == 0);
    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/two --steps 12 --resume").code == 0);
    CHECK(weights_hash(folder.path() + "/whole") == weights_hash(folder.path() + "/two"));

    const auto capped =
        test::run_program(folder, "pretrain --data %d/data.h5 --out %d/capped --steps 12 --nonfinite-cap 1 " + options);
    CHECK(capped.code == 6);
    CHECK(capped.err.find("--nonfinite-cap") != std::string::npos);
    CHECK(test::events_of(folder.path() + "/capped/log.jsonl", "nonfinite").size() == 2);
}

TEST_CASE("non-finite step: rolled back to the last checkpoint, going on with the next batch") {
    const test::TemporaryFolder folder;
    write_images(folder.path() + "/data.h5");
    const std::string options = "--on-nonfinite rollback --checkpoint-every 2 " + network;
    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/whole --steps 10 " + options).code == 0);
    const auto back = test::events_of(folder.path() + "/whole/log.jsonl", "rollback");
    REQUIRE(!back.empty());
    for (const auto& event : back) CHECK(event["step"].get<int>() % 2 == 0);
    CHECK(test::events_of(folder.path() + "/whole/log.jsonl", "stop").back()["step"] == 10);
    CHECK(finite_weights(folder.path() + "/whole"));

    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/two --steps 6 " + options).code == 0);
    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/two --steps 10 --resume").code == 0);
    CHECK(weights_hash(folder.path() + "/whole") == weights_hash(folder.path() + "/two"));
}

TEST_CASE("non-finite weights: never saved, and never over good ones") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/data.h5", side);
    // One step at this rate takes every weight beyond float32, while the step's own loss and gradient are finite.
    const std::string options = "pretrain --data %d/data.h5 --steps 4 --checkpoint-every 1 --lr 1e300 " + network;
    const auto stopped = test::run_program(folder, options + "--out %d/stopped");
    CHECK(stopped.code == 6);
    CHECK_MESSAGE(stopped.err.find("--lr") != std::string::npos, stopped.err);
    CHECK(!std::filesystem::exists(folder.path() + "/stopped/model.safetensors"));

    // With a checkpoint of the first weights to go back to, those stay however often it goes wrong.
    const auto back = test::run_program(folder, options + "--on-nonfinite rollback --nonfinite-cap 2 --out %d/back");
    CHECK(back.code == 6);
    CHECK(test::events_of(folder.path() + "/back/log.jsonl", "rollback").size() == 2);
    CHECK(finite_weights(folder.path() + "/back"));
}

TEST_CASE("non-finite step: a checkpoint that is due at a skipped step is written") {
    const test::TemporaryFolder folder;
    write_images(folder.path() + "/data.h5");
    CHECK(test::run_program(folder,
                            "pretrain --data %d/data.h5 --out %d/run --steps 12 --on-nonfinite skip --keep 20 "
                            "--checkpoint-every 1 " +
                                network)
              .code == 0);
    CHECK(!test::events_of(folder.path() + "/run/log.jsonl", "skipped").empty());
    CHECK(test::events_of(folder.path() + "/run/log.jsonl", "checkpoint").size() == 12);
}

}  // namespace cover
