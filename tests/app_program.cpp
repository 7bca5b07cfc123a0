// Runs the built program as a user would.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/file.h"
#include "core/hash.h"
#include "data/h5_write.h"
#include "nn/safetensors.h"
#include "tests/run_program.h"

namespace cover {
namespace {

const std::string small_network =
    "--channels 8,8,16,16,16,16,16,8,8 --heads 2,2,1,1,1 --patch 32 --batch 2 --degree 0.5 ";

}  // namespace

TEST_CASE("program: exit codes and where words go") {
    const test::TemporaryFolder folder;
    const auto version = test::run_program(folder, "--version");
    CHECK(version.code == 0);
    CHECK(version.out.rfind("cover ", 0) == 0);
    CHECK(version.err.empty());

    const auto unknown = test::run_program(folder, "pretrian");
    CHECK(unknown.code == 2);
    CHECK(unknown.out.empty());
    CHECK(unknown.err.find("'pretrain'") != std::string::npos);
    CHECK(test::run_program(folder, "").code == 2);
    CHECK(test::run_program(folder, "verify gold").err.find("`cover verify --help`") != std::string::npos);
    CHECK(test::run_program(folder, "finetune --out x").code == 2);
    CHECK(test::run_program(folder, "pretrain --data none.h5 --out %d/run --allow-other-kernels").code == 2);
    CHECK(test::run_program(folder, "pretrain --out %d/run --resume").code == 2);  // no run there, and no --data

    CHECK(test::run_program(folder, "pretrain --data none.h5 --out %d/run --set bacth=2").code == 3);
    CHECK(test::run_program(folder, "pretrain --data %d/none.h5 --out %d/run").code == 4);
    CHECK(!std::filesystem::exists(folder.path() + "/run"));
    write_file(folder.path() + "/damaged.h5", "\x89HDF\r\n\x1a\n and nothing else");
    CHECK(test::run_program(folder, "pretrain --data %d/damaged.h5 --out %d/run").code == 4);
    CHECK(test::run_program(folder, "verify golden %d/damaged.h5").code == 4);
    CHECK(test::run_program(folder, "info %d/none").code == 7);
    CHECK(test::run_program(folder, "bench step --device cuda").code == 5);
    CHECK(test::run_program(folder, "bench step --precision bf16").code == 5);
    CHECK(test::run_program(folder, "bench step --patch 40").code == 3);
    CHECK(test::run_program(folder, "bench ops --op cnov").code == 2);

    const auto info = test::run_program(folder, "info --json");
    CHECK(info.code == 0);
    CHECK(nlohmann::json::parse(info.out).contains("kernels"));
    if (std::filesystem::exists("/dev/full")) {
        const int status = std::system(COVER_PROGRAM " info >/dev/full 2>/dev/null");
        CHECK(WEXITSTATUS(status) == 7);
    }
}

TEST_CASE("program: bench step prints one JSON object") {
    const test::TemporaryFolder folder;
    const auto bench =
        test::run_program(folder,
                          "bench step --dims 2 --channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --patch 32 "
                          "--batch 1 --threads 1 --steps 2 --json --profile");
    REQUIRE(bench.code == 0);
    const auto json = nlohmann::json::parse(bench.out);
    CHECK(json["seconds"] > 0);
    CHECK(json["seconds_min"] <= json["seconds"]);
    CHECK(json["seconds"] <= json["seconds_max"]);
    CHECK(json["peak_bytes"] > 1 << 20);
    bool conv = false;
    for (const auto& cost : json["profile"])
        conv = conv ||
               (cost["op"].get<std::string>().rfind("fused_conv:", 0) == 0 && cost["calls"] == 28 && cost["bytes"] > 0);
    CHECK(conv);
}

TEST_CASE("program: a run writes its folder, its weights can be evaluated, exported and started from") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/data.h5", 48);
    const auto run = test::run_program(folder,
                                       "pretrain --data %d/data.h5 --out %d/run --steps 6 --threads 2 --holdout 0.25 "
                                       "--checkpoint-every 4 " +
                                           small_network);
    REQUIRE_MESSAGE(run.code == 0, run.err);
    CHECK(run.err.find("beyond the pyramid's reach") != std::string::npos);
    CHECK(run.out.find("loss_vec_ratio ") != std::string::npos);
    for (const char* name : {"config.toml", "log.jsonl", "manifest.json", "model.safetensors", "report.html"})
        CHECK(std::filesystem::exists(folder.path() + "/run/" + name));

    const auto events = test::events_of(folder.path() + "/run/log.jsonl");
    REQUIRE(events.size() >= 9);
    CHECK(events.front()["event"] == "start");
    CHECK(events.back()["event"] == "stop");
    int steps = 0, holdouts = 0;
    for (const auto& event : events) {
        holdouts += event["event"] == "holdout";
        if (event["event"] != "step") continue;
        CHECK(event["step"] == ++steps);
        for (const char* key :
             {"loss", "loss_vec", "loss_con", "loss_vec_ratio", "grad_norm", "lr", "valid", "seconds", "wait"})
            CHECK_MESSAGE(event[key].is_number(), key);
    }
    CHECK(steps == 6);
    CHECK(holdouts == 2);  // after step 4 and at the end

    // A folder that holds a run is left alone.
    const auto before = sha256_of_file(folder.path() + "/run/model.safetensors");
    CHECK(test::run_program(folder, "pretrain --data %d/data.h5 --out %d/run --steps 1 " + small_network).code == 3);
    CHECK(sha256_of_file(folder.path() + "/run/model.safetensors") == before);

    const auto evaluation = test::run_program(folder, "evaluate --weights %d/run --data %d/data.h5 --pairs 5 --json");
    REQUIRE_MESSAGE(evaluation.code == 0, evaluation.err);
    const auto scores = nlohmann::json::parse(evaluation.out);
    for (const char* key : {"epe", "epe_ratio", "loss_vec_ratio", "consistency", "beyond_reach"})
        CHECK_MESSAGE(scores[key].is_number(), key);
    CHECK(scores["similarity"]["1"].is_number());
    CHECK(scores["similarity"]["32"].is_null());  // the patch has 32 pixels

    REQUIRE(test::run_program(folder, "export %d/run --out %d/all.safetensors").code == 0);
    REQUIRE(test::run_program(folder, "export %d/run --out %d/backbone.safetensors --part backbone").code == 0);
    const auto all = read_safetensors(folder.path() + "/all.safetensors");
    const auto backbone = read_safetensors(folder.path() + "/backbone.safetensors");
    CHECK(all.tensors.size() == 93);
    CHECK(backbone.tensors.size() == 72);
    CHECK(all.find("mov.grid") != nullptr);
    CHECK(all.metadata.at("degree") == "0.5");
    CHECK(all.metadata.at("patch") == "32,32");
    CHECK(test::run_program(folder, "evaluate --weights %d/backbone.safetensors --data %d/data.h5").code == 4);
    // Metadata that promise a larger network than the tensors hold: refused before memory is taken for it.
    auto absurd = all.metadata;
    absurd["channels"] = "32768,32768,32768,32768,32768,32768,32768,32768,32768";
    write_safetensors(folder.path() + "/absurd.safetensors", all.tensors, absurd);
    for (const char* command : {"evaluate --data %d/data.h5 --weights %d/absurd.safetensors",
                                "export %d/absurd.safetensors --out %d/x.safetensors --part backbone"}) {
        const auto refused = test::run_program(folder, command);
        CHECK(refused.code == 4);
        CHECK_MESSAGE(refused.err.find("its metadata promise") != std::string::npos, refused.err);
    }
    CHECK(test::run_program(folder, "info %d/run").code == 0);
    CHECK(test::run_program(folder, "info %d/all.safetensors").code == 0);
    CHECK(test::run_program(folder, "info %d/data.h5").code == 0);

    // --init starts from those weights: with a rate of nearly zero they stay.
    const auto again = test::run_program(folder,
                                         "pretrain --data %d/data.h5 --out %d/again --steps 1 --lr 1e-30 --init "
                                         "%d/all.safetensors " +
                                             small_network);
    REQUIRE_MESSAGE(again.code == 0, again.err);
    const auto kept = read_safetensors(folder.path() + "/again/model.safetensors");
    for (const auto& [name, tensor] : all.tensors)
        CHECK_MESSAGE(test::difference(kept.find(name)->view(), tensor.view(), 0, 0).empty(), name);
}

TEST_CASE("program: the same bits for every number of threads and loader threads, and from config.toml") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/data.h5", 48);
    const std::string base = "pretrain --data %d/data.h5 --steps 4 " + small_network;
    REQUIRE(test::run_program(folder, base + "--out %d/one --threads 1 --loader-threads 0").code == 0);
    REQUIRE(test::run_program(folder, base + "--out %d/two --threads 2 --loader-threads 4").code == 0);
    REQUIRE(test::run_program(folder, base + "--out %d/three --threads 3 --loader-threads 1").code == 0);
    REQUIRE(test::run_program(folder, "pretrain --config %d/one/config.toml --out %d/four").code == 0);
    const auto weights = sha256_of_file(folder.path() + "/one/model.safetensors");
    for (const char* run : {"two", "three", "four"})
        CHECK_MESSAGE(sha256_of_file(folder.path() + "/" + run + "/model.safetensors") == weights, run);
    REQUIRE(test::run_program(folder, base + "--out %d/other --seed 1").code == 0);
    CHECK(sha256_of_file(folder.path() + "/other/model.safetensors") != weights);
}

TEST_CASE("program: an interrupted run saves what it has and exits 8") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/data.h5", 48);
    // Stops itself once the log shows a third step, however slow the machine is.
    const auto command = std::string(COVER_PROGRAM) + " pretrain --data " + folder.path() + "/data.h5 --out " +
                         folder.path() + "/run --steps 1000000 " + small_network +
                         " >/dev/null 2>&1 & run=$!; for i in $(seq 600); do " + "test $(cat " + folder.path() +
                         "/run/log.jsonl 2>/dev/null | grep -c '\"step\",') -ge 3 && break; " +
                         "sleep 0.1; done; kill -TERM $run; wait $run";
    const int status = std::system(command.c_str());
    CHECK(WEXITSTATUS(status) == 8);
    CHECK(std::filesystem::exists(folder.path() + "/run/model.safetensors"));
    CHECK(std::filesystem::exists(folder.path() + "/run/report.html"));
    const auto events = test::events_of(folder.path() + "/run/log.jsonl");
    CHECK(events.back()["event"] == "stop");
    CHECK(events.back()["why"] == "interrupted");
}

TEST_CASE("program: a loss that is not finite stops the run with 6") {
    const test::TemporaryFolder folder;
    test::write_small_patches(folder.path() + "/data.h5", 48);
    const auto run = test::run_program(folder,
                                       "pretrain --data %d/data.h5 --out %d/run --steps 50 --optimizer sgd --lr 1e30 "
                                       "--clip 1e30 " +
                                           small_network);
    CHECK(run.code == 6);
    CHECK(run.err.find("--lr") != std::string::npos);
    CHECK(test::events_of(folder.path() + "/run/log.jsonl").back()["event"] == "stop");
}

}  // namespace cover
