// `cover report` and the page that `cover pretrain` leaves: of images and of volumes, of damaged folders.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "data/h5_write.h"
#include "nn/safetensors.h"
#include "tests/run_program.h"

namespace cover {
namespace {

namespace fs = std::filesystem;
using test::run_program;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Smooth waves of another phase in each sample.
void write_patch_file(const std::string& path, const std::vector<std::int64_t>& sides, double phase = 0) {
    constexpr std::int64_t samples = 5;
    std::vector<std::int64_t> shape{samples, 1};
    std::int64_t pixels = 1;
    for (const auto side : sides) {
        shape.push_back(side);
        pixels *= side;
    }
    std::vector<unsigned char> bytes;
    for (std::int64_t s = 0; s < samples; ++s)
        for (std::int64_t i = 0; i < pixels; ++i) {
            const double x = static_cast<double>(i % sides.back()), y = static_cast<double>(i / sides.back());
            const double wave = std::sin(0.3 * x + static_cast<double>(s) + phase) * std::cos(0.2 * y - phase);
            bytes.push_back(static_cast<unsigned char>(127 + 120 * wave));
        }
    H5Writer writer(path);
    writer.dataset("/images", H5Store::uint8, shape, bytes.data());
    writer.commit();
}

const std::string tiny = "--channels 8,8,8,8,16,8,8,8,8 --heads 2,1,1,1,1 --threads 2 --lr 1e-3 ";

}  // namespace

TEST_CASE("report program: the page of a run on images, made again to the same bytes") {
    const test::TemporaryFolder folder;
    const auto& at = folder.path();
    write_patch_file(at + "/data.h5", {48, 48});
    const auto trained = run_program(
        folder, "pretrain --data %d/data.h5 --out %d/run --patch 32 --batch 2 --steps 4 --degree 0.5 " + tiny);
    REQUIRE_MESSAGE(trained.code == 0, trained.err);
    const auto page = read_file(at + "/run/report.html");
    for (const char* id : {"ran", "curves", "scores", "views", "levels", "features", "settings"})
        CHECK_MESSAGE(contains(page, fmt::format("<h2 id=\"{}\">", id)), id);
    const auto manifest = nlohmann::json::parse(read_file(at + "/run/manifest.json"));
    for (const char* key : {"data_hash", "processor", "kernels", "build"})
        CHECK_MESSAGE(contains(page, manifest[key].get<std::string>()), key);
    CHECK(contains(page, "48 x 48 pixels"));
    CHECK(contains(page, "that were trained on"));
    CHECK(contains(page, "4 of 4"));
    CHECK(!contains(page, "class=\"notes\""));

    // The same bytes from the folder, for every number of threads; the scores are those of `cover evaluate`.
    for (const char* threads : {"", " --threads 1", " --threads 3"}) {
        REQUIRE(run_program(folder, std::string("report %d/run --out %d/again.html") + threads).code == 0);
        CHECK_MESSAGE((read_file(at + "/again.html") == page), threads);
    }
    const auto evaluated = run_program(folder, "evaluate --weights %d/run --data %d/data.h5 --json");
    REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
    const auto scores = nlohmann::json::parse(evaluated.out);
    for (const char* key : {"epe_ratio", "loss_vec_ratio", "consistency"})
        CHECK_MESSAGE(contains(page, fmt::format("<th scope=\"row\">{}</th><td class=\"n\">{:.4f}</td>", key,
                                                 scores[key].get<double>())),
                      key);

    // A torn last line is named, and the page is still made.
    const auto log = read_file(at + "/run/log.jsonl");
    write_file(at + "/run/log.jsonl", log + "{\"event\":\"st");
    const auto torn = run_program(folder, "report %d/run");
    CHECK(torn.code == 0);
    CHECK_MESSAGE(contains(torn.err, "breaks off"), torn.err);
    CHECK(contains(read_file(at + "/run/report.html"), "breaks off"));
    write_file(at + "/run/log.jsonl", log);

    // Data that moved: curves alone and a sentence, and all of it again once --data names the place.
    fs::rename(at + "/data.h5", at + "/moved.h5");
    const auto gone = run_program(folder, "report %d/run");
    CHECK(gone.code == 0);
    CHECK_MESSAGE((contains(gone.err, "data.h5") && contains(gone.err, "--data")), gone.err);
    const auto bare = read_file(at + "/run/report.html");
    CHECK(contains(bare, "class=\"notes\""));
    CHECK(contains(bare, "id=\"curves\""));
    CHECK(contains(bare, "class=\"chart\""));
    CHECK(!contains(bare, "id=\"views\""));
    REQUIRE(run_program(folder, "report %d/run --data %d/moved.h5").code == 0);
    CHECK(contains(read_file(at + "/run/report.html"), "id=\"views\""));
    write_patch_file(at + "/other.h5", {48, 48}, 1.5);
    const auto other = run_program(folder, "report %d/run --data %d/other.h5");
    CHECK(other.code == 0);
    CHECK_MESSAGE(contains(other.err, "not what the run was trained on"), other.err);
    write_patch_file(at + "/small.h5", {16, 16});
    CHECK(run_program(folder, "report %d/run --data %d/small.h5").code == 3);
    CHECK(run_program(folder, "report %d/run --data %d/none.h5").code == 4);

    // --weights: a checkpoint folder, a file, one that is not there, one of another network.
    const auto checkpoint = run_program(
        folder, "report %d/run --data %d/moved.h5 --weights %d/run/checkpoints/step-0000004 --out %d/again.html");
    CHECK_MESSAGE(checkpoint.code == 0, checkpoint.err);
    CHECK(contains(read_file(at + "/again.html"), "step-0000004"));
    CHECK(run_program(folder, "report %d/run --data %d/moved.h5 --weights %d/none.safetensors").code == 7);
    const auto network = test::small_network(2);
    write_safetensors(at + "/foreign.safetensors", test::small_model(network).to_file(),
                      test::small_metadata(network, 32));
    const auto foreign = run_program(folder, "report %d/run --data %d/moved.h5 --weights %d/foreign.safetensors");
    CHECK(foreign.code == 4);
    CHECK_MESSAGE(contains(foreign.err, "does not fit"), foreign.err);

    // No weights, no manifest: the page says so. No run: an error.
    fs::remove(at + "/run/model.safetensors");
    fs::remove(at + "/run/manifest.json");
    const auto empty = run_program(folder, "report %d/run");
    CHECK(empty.code == 0);
    CHECK(contains(empty.err, "no weights"));
    CHECK(contains(empty.err, "manifest.json is missing"));
    CHECK(run_program(folder, "report %d/run --out %d/none/x.html").code == 7);
    CHECK(run_program(folder, "report %d/nowhere").code == 7);
    CHECK(run_program(folder, "report %d").code == 4);
    CHECK(run_program(folder, "report").code == 2);
    write_file(at + "/run/config.toml", "steps = \n");
    CHECK(run_program(folder, "report %d/run").code == 3);
}

TEST_CASE("report program: a run on volumes shows three slices") {
    const test::TemporaryFolder folder;
    const auto& at = folder.path();
    write_patch_file(at + "/volumes.h5", {24, 32, 24});
    const auto trained = run_program(folder,
                                     "pretrain --data %d/volumes.h5 --out %d/run --patch 16x32x16 --batch 1 --steps 2 "
                                     "--degree 0.3 --holdout 0.3 --checkpoint-every 1 " +
                                         tiny);
    REQUIRE_MESSAGE(trained.code == 0, trained.err);
    const auto page = read_file(at + "/run/report.html");
    for (const char* id : {"ran", "curves", "scores", "views", "levels", "features", "settings"})
        CHECK_MESSAGE(contains(page, fmt::format("<h2 id=\"{}\">", id)), id);
    for (const char* plane : {"Plane D = 8: H to the right, W up", "Plane H = 16: D to the right, W up",
                              "Plane W = 8: D to the right, H up"})
        CHECK_MESSAGE(contains(page, plane), plane);
    CHECK(contains(page, "volumes held out of training"));
    CHECK(contains(page, "held out</span>"));
    CHECK(contains(page, "L_vec, voxels"));
    REQUIRE(run_program(folder, "report %d/run --out %d/again.html --threads 1").code == 0);
    CHECK((read_file(at + "/again.html") == page));
}

}  // namespace cover
