// Checkpoints and resumed runs, as a user has them.
#include <sys/file.h>
#include <sys/resource.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/file.h"
#include "core/hash.h"
#include "cover/checkpoint.h"
#include "nn/safetensors.h"
#include "tests/run_program.h"

namespace cover::test {
namespace {

namespace fs = std::filesystem;

const std::string network =
    "--channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --patch 16 --batch 3 --degree 0.5 --checkpoint-every 2 ";

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

bool contains(const std::string& sentence, const std::string& word) {
    const bool found = sentence.find(word) != std::string::npos;
    CHECK_MESSAGE(found, "'" << sentence << "' does not say '" << word << "'");
    return found;
}

}  // namespace

TEST_CASE("resume: stopped and continued, with any threads, the same bits as in one go") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    for (const std::string optimizer : {"adam", "sgd"}) {
        fs::remove_all(path + "/whole");
        fs::remove_all(path + "/parts");
        const auto base = "pretrain --data %d/data.h5 --holdout 0.25 --optimizer " + optimizer + " " + network;
        REQUIRE(run_program(folder, base + "--out %d/whole --steps 9 --threads 1 --loader-threads 0").code == 0);
        REQUIRE(run_program(folder, base + "--out %d/parts --steps 3 --threads 2 --loader-threads 2").code == 0);
        // Options that are left out come from config.toml.
        const auto second = run_program(folder, "pretrain --out %d/parts --resume --steps 7 --threads 3");
        REQUIRE_MESSAGE(second.code == 0, second.err);
        CHECK(contains(second.err, "goes on from"));
        REQUIRE(run_program(folder, base + "--out %d/parts --resume --steps 9 --loader-threads 0").code == 0);
        CHECK(sha256_of_file(path + "/whole/model.safetensors") == sha256_of_file(path + "/parts/model.safetensors"));
        for (const char* name : {"model.safetensors", "state.safetensors"})
            CHECK(sha256_of_file(path + "/whole/checkpoints/step-0000008/" + name) ==
                  sha256_of_file(path + "/parts/checkpoints/step-0000008/" + name));
        const auto compared = run_program(folder, "verify runs %d/whole %d/parts --json");
        CHECK_MESSAGE(compared.code == 0, compared.out);
        CHECK(nlohmann::json::parse(compared.out)["steps_in_common"] == 9);

        int steps = 0, resumes = 0;
        for (const auto& event : events_of(path + "/parts/log.jsonl")) {
            if (event["event"] == "step") CHECK(event["step"] == ++steps);
            resumes += event["event"] == "resume";
        }
        CHECK(steps == 9);
        CHECK(resumes == 2);
        // The newest three stay: of the steps 4, 6, 7 (an end), 8, 9.
        CHECK(names_in(path + "/parts/checkpoints") ==
              std::vector<std::string>{"step-0000007", "step-0000008", "step-0000009"});
    }
}

TEST_CASE("resume: a finished run is checked, left as it is, and exits 0") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    REQUIRE(run_program(folder, "pretrain --data %d/data.h5 --out %d/run --steps 3 " + network).code == 0);
    const auto log = read_file(path + "/run/log.jsonl"), weights = read_file(path + "/run/model.safetensors");
    const auto again = run_program(folder, "pretrain --out %d/run --resume");
    CHECK_MESSAGE(again.code == 0, again.err);
    CHECK(contains(again.err, "is finished"));
    CHECK(contains(again.out, "steps 3\n"));
    CHECK(read_file(path + "/run/log.jsonl") == log);

    const auto info = run_program(folder, "info %d/run/checkpoints/step-0000002 --json");
    CHECK(info.code == 0);
    CHECK(nlohmann::json::parse(info.out)["state"]["next_batch"] == "2");

    // Weights of another step beside it, as a kill between two files leaves them, are put right.
    write_file(path + "/run/model.safetensors", read_file(path + "/run/checkpoints/step-0000002/model.safetensors"));
    CHECK(run_program(folder, "pretrain --out %d/run --resume").code == 0);
    CHECK(read_file(path + "/run/model.safetensors") == weights);
    CHECK(contains(run_program(folder, "pretrain --out %d/run --resume --steps 2").err, "has 3 steps already"));
}

TEST_CASE("resume: with no checkpoint the run begins at step 0 and says so") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    const auto fresh = run_program(folder, "pretrain --data %d/data.h5 --out %d/run --steps 3 --resume " + network);
    REQUIRE_MESSAGE(fresh.code == 0, fresh.err);
    CHECK(contains(fresh.err, "begins at step 0"));
    const auto weights = sha256_of_file(path + "/run/model.safetensors");
    // Killed before the first checkpoint: config.toml and a log are there.
    fs::remove_all(path + "/run/checkpoints");
    const auto again = run_program(folder, "pretrain --out %d/run --resume");
    REQUIRE_MESSAGE(again.code == 0, again.err);
    CHECK(contains(again.err, "begins at step 0"));
    CHECK(sha256_of_file(path + "/run/model.safetensors") == weights);
    int steps = 0;
    for (const auto& event : events_of(path + "/run/log.jsonl"))
        if (event["event"] == "step") CHECK(event["step"] == ++steps);
    CHECK(steps == 3);
}

TEST_CASE("resume: other settings, data or kernels are named and refused") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    write_small_patches(path + "/other.h5", 32);
    REQUIRE(run_program(folder, "pretrain --data %d/data.h5 --out %d/run --steps 2 " + network).code == 0);
    const auto log = read_file(path + "/run/log.jsonl");
    const auto refusal = [&](const std::string& options) {
        const auto run = run_program(folder, "pretrain --out %d/run --resume --steps 4 " + options);
        CHECK_MESSAGE(run.code == 3, options << ": " << run.err);
        CHECK(read_file(path + "/run/log.jsonl") == log);
        return run.err;
    };
    const auto settings = refusal("--lr 0.5 --set brightness_sd=0.2 --preset paper --degree 0.5");
    for (const char* word : {"--lr: 0.5, the run has 0.0001", "brightness_sd: 0.2", "--preset: \"paper\""})
        contains(settings, word);
    CHECK(settings.find("--degree") == std::string::npos);
    contains(refusal("--data %d/other.h5"), "other.h5 are not those of the run");
    contains(refusal("--data %d/data.h5 %d/data.h5"), "are not those of the run");
    contains(refusal("--kernel conv:ref"), "--allow-other-kernels");
    const auto environment = run_program(folder, "pretrain --out %d/run --resume --steps 4", "COVER_KERNEL=warp:ref");
    CHECK(environment.code == 3);
    contains(environment.err, "warp:ref");
    const auto other = run_program(folder,
                                   "pretrain --out %d/run --resume --steps 5 --kernel conv:ref "
                                   "--allow-other-kernels");
    CHECK_MESSAGE(other.code == 0, other.err);
    CHECK(contains(read_file(path + "/run/config.toml"), "kernel = [\"conv:ref\"]"));

    // The same data under another name are the same data.
    fs::rename(path + "/data.h5", path + "/moved.h5");
    CHECK(run_program(folder, "pretrain --out %d/run --resume --steps 6").code == 4);
    const auto moved = run_program(folder, "pretrain --out %d/run --resume --steps 6 --data %d/moved.h5");
    CHECK_MESSAGE(moved.code == 0, moved.err);
    // Without --resume a folder that holds a run is refused, and the way on is named.
    const auto used = run_program(folder, "pretrain --data %d/moved.h5 --out %d/run --steps 9 " + network);
    CHECK(used.code == 3);
    contains(used.err, "--resume");
}

TEST_CASE("resume: a damaged checkpoint is named and kept, and the one before it taken") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    const auto base = "pretrain --data %d/data.h5 --out %d/run " + network;
    REQUIRE(run_program(folder, base + "--steps 6").code == 0);
    const auto weights = sha256_of_file(path + "/run/model.safetensors");
    const auto damage = [&](const std::string& file) {
        auto bytes = read_file(file);
        bytes[bytes.size() / 2] ^= 1;
        write_file(file, bytes);
    };
    damage(path + "/run/checkpoints/step-0000006/state.safetensors");
    const auto resumed = run_program(folder, base + "--resume --steps 6");
    REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
    contains(resumed.err, "step-0000006/state.safetensors: is not the file that was written");
    contains(resumed.err, "goes on from");
    CHECK(sha256_of_file(path + "/run/model.safetensors") == weights);
    CHECK(names_in(path + "/run/checkpoints") ==
          std::vector<std::string>{"damaged-step-0000006", "step-0000002", "step-0000004", "step-0000006"});
    // Nothing is begun anew behind the user's back when none is whole.
    for (const char* step : {"2", "4", "6"})
        damage(path + "/run/checkpoints/step-000000" + step + "/model.safetensors");
    const auto lost = run_program(folder, base + "--resume --steps 8");
    CHECK(lost.code == 4);
    contains(lost.err, "no checkpoint is whole");
    fs::remove(path + "/run/config.toml");
    CHECK(run_program(folder, base + "--resume --steps 8").code == 4);
}

TEST_CASE("resume: one process at a time, and room before the first step") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    const auto base = "pretrain --data %d/data.h5 --out %d/run --steps 2 " + network;
    fs::create_directory(path + "/run");
    {
        const int held = ::open((path + "/run").c_str(), O_RDONLY | O_DIRECTORY);
        REQUIRE(::flock(held, LOCK_EX | LOCK_NB) == 0);
        const auto second = run_program(folder, base);
        CHECK(second.code == 3);
        contains(second.err, "another process");
        ::close(held);
    }
    // The largest file that may be written is smaller than a checkpoint: found before anything is computed.
    const auto small = run_program(folder, base, "ulimit -f 100; exec ");
    CHECK(small.code == 7);
    contains(small.err, "a checkpoint needs");
    CHECK(!fs::exists(path + "/run/log.jsonl"));
    CHECK(run_program(folder, base).code == 0);
}

TEST_CASE("resume: interrupted by a signal, a run saves, exits 8 and goes on with the same bits") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    const auto base = "pretrain --data %d/data.h5 --set checkpoint_every=1000 --patch 16 --batch 3 --degree 0.5 ";
    const std::string narrow = "--channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 ";
    // The signals are sent once the log shows a step, however slow the machine is.
    const auto signalled = [&](const std::string& run, const std::string& options, const std::string& signals) {
        return run_program(folder, text(base, options) + "--out %d/" + run +
                                       " --steps 1000000 >/dev/null 2>&1 & run=$!; for i in $(seq 600); do "
                                       "grep -q '\"step\",' %d/" +
                                       run +
                                       "/log.jsonl 2>/dev/null && break; sleep 0.1; "
                                       "done; " +
                                       signals + "wait $run; code=$?; (exit $code)");
    };
    for (const std::string name : {"INT", "TERM"}) {
        const auto stopped = signalled(name, narrow, "kill -" + name + " $run; ");
        CHECK(stopped.code == 8);
        const auto last = events_of(path + "/" + name + "/log.jsonl").back();
        CHECK(last["event"] == "stop");
        CHECK(last["why"] == "interrupted");
        CHECK(last["saved"] == true);
        const auto steps = last["step"].get<int>() + 3;
        REQUIRE(run_program(folder, text("pretrain --out %d/", name, " --resume --steps ", steps)).code == 0);
        REQUIRE(run_program(folder, text(base, narrow, "--out %d/whole-", name, " --steps ", steps)).code == 0);
        CHECK(run_program(folder, "verify runs %d/" + name + " %d/whole-" + name).code == 0);
    }
    // A second signal ends the process at once, also one of the other kind; a wide network is in its save by then.
    const auto twice = signalled("twice", "", "kill -TERM $run; sleep 0.02; kill -INT $run; ");
    CHECK(twice.code == 128 + 2);
}

TEST_CASE("resume: a run that stops by itself leaves its weights and a checkpoint") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    const auto run = run_program(folder,
                                 "pretrain --data %d/data.h5 --out %d/run --steps 50 --optimizer sgd --lr 1e30 "
                                 "--clip 1e30 --batch 1 --patch 16 --set checkpoint_every=100 "
                                 "--channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1");
    CHECK(run.code == 6);
    CHECK(fs::exists(path + "/run/model.safetensors"));
    REQUIRE(names_in(path + "/run/checkpoints").size() == 1);
    CHECK(run_program(folder, "info %d/run/model.safetensors").code == 0);

    // A row that cannot run here, or does not exist, leaves no folder behind.
    CHECK(run_program(folder, "pretrain --data %d/data.h5 --out %d/none --steps 2 --kernel conv:cpu_avx512 " + network,
                      "COVER_ISA=avx2")
              .code == 3);
    CHECK(!fs::exists(path + "/none"));
}

TEST_CASE("resume: two runs that differ are told apart") {
    const TemporaryFolder folder;
    const auto path = folder.path();
    write_small_patches(path + "/data.h5", 24);
    const auto base = "pretrain --data %d/data.h5 " + network;
    REQUIRE(run_program(folder, base + "--steps 4 --out %d/a").code == 0);
    REQUIRE(run_program(folder, base + "--steps 4 --out %d/b --schedule cosine --lr 1e-3").code == 0);
    REQUIRE(run_program(folder, base + "--steps 3 --out %d/c").code == 0);
    const auto differ = run_program(folder, "verify runs %d/a %d/b --json");
    CHECK(differ.code == 9);
    const auto json = nlohmann::json::parse(differ.out);
    CHECK(json["same"] == false);
    CHECK(json["first_step"]["step"] == 1);
    CHECK(json["first_tensor"]["step"] == 2);
    CHECK(json["first_tensor"]["tensor"].is_string());
    const auto shorter = run_program(folder, "verify runs %d/a %d/c");
    CHECK(shorter.code == 9);
    contains(shorter.out, "a ends at step 4, b at step 3");
    CHECK(run_program(folder, "verify runs %d/a %d").code == 4);
    CHECK(run_program(folder, "verify runs %d/a").code == 2);

    // One bit of one loss, and one bit of one weight.
    fs::copy(path + "/a", path + "/d", fs::copy_options::recursive);
    CHECK(run_program(folder, "verify runs %d/a %d/d").code == 0);
    auto log = read_file(path + "/d/log.jsonl");
    const auto at = log.find("\"loss\":", log.find("\"step\":3,")) + 7;
    log[at] = log[at] == '1' ? '2' : '1';
    write_file(path + "/d/log.jsonl", log);
    const auto loss = run_program(folder, "verify runs %d/a %d/d");
    CHECK(loss.code == 9);
    contains(loss.out, "first step that differs: 3, loss");
    fs::remove_all(path + "/d");
    fs::copy(path + "/a", path + "/d", fs::copy_options::recursive);
    auto weights = read_file(path + "/d/checkpoints/step-0000004/model.safetensors");
    weights.back() ^= 1;
    write_file(path + "/d/checkpoints/step-0000004/model.safetensors", weights);
    const auto weight = run_program(folder, "verify runs %d/a %d/d");
    CHECK(weight.code == 9);
    contains(weight.out, "first tensor that differs: step 4, checkpoints/step-0000004/model.safetensors, mov.grid");
    contains(weight.out, "1 of");
}

TEST_CASE("resume: a trainer goes back in place") {
    TrainConfig config;
    config.channels = {8, 8, 8, 8, 8, 8, 8, 8, 8};
    config.heads = {1, 1, 1, 1, 1};
    config.patch = {1, 16, 16};
    config.batch = 2;
    config.degree = 0.5;
    config.steps = 10;
    complete_config(config, {2, 1, {1, 24, 24}, 8});
    Stream& stream = cpu_stream();
    Trainer trainer(config, stream);
    const Tensor images = random_tensor({2, 1, 24, 24, 1}, DType::float32, 3, 0, 1);
    const auto step = [&](Trainer& t, std::uint32_t epoch) { return t.step(images, {{epoch, 0}, {epoch, 1}}); };
    step(trainer, 0);
    step(trainer, 1);
    const RunPosition position{
        .next_batch = 5, .redrawn = 7, .kernels = "the best rows for avx2", .extra = {{"guard", "3"}}};
    const TensorFile state = training_state(trainer, position);
    TensorFile model;
    model.tensors = trainer.model().to_file();
    const double loss = step(trainer, 2).result.loss, norm = step(trainer, 3).result.grad_norm;

    const auto back = restore_training(trainer, model, state, "here");
    CHECK(back == RunPosition{2, 5, 0, 7, "the best rows for avx2", {{"guard", "3"}}});
    CHECK(trainer.steps_done() == 2);
    CHECK(step(trainer, 2).result.loss == loss);
    CHECK(step(trainer, 3).result.grad_norm == norm);

    // What does not fit changes nothing.
    const auto before = trainer.model().to_file();
    auto broken = state;
    broken.metadata["step"] = "-3";
    CHECK_THROWS_AS(restore_training(trainer, model, broken, "here"), Error);
    broken = state;
    broken.tensors.pop_back();
    CHECK_THROWS_AS(restore_training(trainer, model, broken, "here"), Error);
    broken = state;
    broken.tensors[0].tensor = Tensor::zeros({3}, DType::float32);
    CHECK_THROWS_AS(restore_training(trainer, model, broken, "here"), Error);
    auto half = model;
    half.tensors.pop_back();
    half.tensors.pop_back();
    CHECK_THROWS_AS(restore_training(trainer, half, state, "here"), Error);
    CHECK(trainer.steps_done() == 4);
    for (std::size_t i = 0; i < before.size(); ++i)
        CHECK(difference(trainer.model().to_file()[i].tensor.view(), before[i].tensor.view(), 0, 0).empty());
}

}  // namespace cover::test
