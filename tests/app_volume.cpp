// The program with volumes, and with files that are larger than any memory.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/file.h"
#include "data/h5_write.h"
#include "data/patches.h"
#include "nn/safetensors.h"
#include "tests/support.h"

namespace cover {
namespace {

struct Outcome {
    int code = -1;
    std::int64_t peak_bytes = 0;
    std::string out, err;
};

// Words are split at spaces; %d stands for the folder.
Outcome cover_with(const test::TemporaryFolder& folder, std::string arguments) {
    for (auto at = arguments.find("%d"); at != std::string::npos; at = arguments.find("%d", at))
        arguments.replace(at, 2, folder.path());
    const auto out = folder.path() + "/.out", err = folder.path() + "/.err";
    std::vector<std::string> words{COVER_PROGRAM};
    std::istringstream in(arguments);
    for (std::string word; in >> word;) words.push_back(word);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen(out.c_str(), "w", stdout) || !freopen(err.c_str(), "w", stderr)) _exit(126);
        execv(argv[0], argv.data());
        _exit(127);
    }
    int status = 0;
    struct rusage used {};
    REQUIRE(wait4(child, &status, 0, &used) == child);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, std::int64_t{used.ru_maxrss} * 1024, read_file(out),
            read_file(err)};
}

const std::string small_network =
    " --channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --head-dim 8 --patch 16 --batch 2 --degree 0.5 --threads 2 ";

// `samples` volumes of 128 x 128 x 128 bytes that take up no room on the disk: only the last one was written.
void write_sparse(const std::string& path, std::int64_t samples, int key = 0) {
    const std::int64_t side = 128;
    H5Writer writer(path);
    writer.create("/images", H5Store::uint8, {samples, 1, side, side, side});
    std::vector<unsigned char> last(static_cast<std::size_t>(side * side * side));
    for (std::size_t i = 0; i < last.size(); ++i)
        last[i] = static_cast<unsigned char>((i * 7 + static_cast<std::size_t>(key)) % 251);
    writer.write_rows("/images", samples - 1, 1, last.data());
    writer.commit();
}

}  // namespace

TEST_CASE("volume program: sample volumes to weights: prepare, pretrain with subjects held out, evaluate, export") {
    const test::TemporaryFolder folder;
    const std::string samples = COVER_SOURCE_DIR "/data/samples/volumes";
    const auto prepared =
        cover_with(folder, "prepare " + samples + "/train --size 32x48x32 --spacing 1.2 --out %d/train.h5");
    REQUIRE_MESSAGE(prepared.code == 0, prepared.err);
    CHECK(prepared.out == "samples 20\nskipped 0\n");
    // The same volumes once more, as another file: each subject then has two samples.
    REQUIRE(cover_with(folder, "prepare " + samples + "/train --size 32x48x32 --out %d/again.h5").code == 0);
    REQUIRE(cover_with(folder, "prepare " + samples + "/heldout --size 32x48x32 --out %d/held.h5").code == 0);

    const auto run = cover_with(folder,
                                "pretrain --data %d/train.h5 %d/again.h5 --out %d/run --steps 3 --holdout 0.2 "
                                "--checkpoint-every 2" +
                                    small_network);
    REQUIRE_MESSAGE(run.code == 0, run.err);
    // 4 of 20 subjects, both samples of each.
    CHECK(run.err.find("40 images of 32 x 48 x 32, 8 held out") != std::string::npos);
    std::istringstream lines(read_file(folder.path() + "/run/log.jsonl"));
    int steps = 0, holdouts = 0;
    for (std::string line; std::getline(lines, line);) {
        const auto event = nlohmann::json::parse(line);
        if (event["event"] == "step") {
            ++steps;
            CHECK(event["loss_vec_ratio"] > 0);
            CHECK(event["valid"] > 0.2);
        }
        holdouts += event["event"] == "holdout";
    }
    CHECK(steps == 3);
    CHECK(holdouts >= 1);
    CHECK(std::filesystem::file_size(folder.path() + "/run/report.html") > 10000);

    const auto scores =
        cover_with(folder, "evaluate --weights %d/run/model.safetensors --data %d/held.h5 --pairs 4 --json");
    REQUIRE_MESSAGE(scores.code == 0, scores.err);
    CHECK(nlohmann::json::parse(scores.out)["epe_ratio"] > 0);
    REQUIRE(cover_with(folder, "export %d/run --out %d/w.safetensors").code == 0);
    const TensorFile weights = read_safetensors(folder.path() + "/w.safetensors");
    CHECK(weights.find("backbone.inc.double_conv.0.weight")->shape().rank() == 5);
}

TEST_CASE("volume program: training on a sparse file of 20 GB takes no more memory than on one of 20 MB") {
    const test::TemporaryFolder folder;
    write_sparse(folder.path() + "/small.h5", 10);
    write_sparse(folder.path() + "/large.h5", 10240);
    struct stat facts {};
    REQUIRE(stat((folder.path() + "/large.h5").c_str(), &facts) == 0);
    REQUIRE(facts.st_size > std::int64_t{20} << 30);
    if (facts.st_blocks * 512 > std::int64_t{100} << 20) return test::skip("this file system keeps no sparse files");
    const auto small = cover_with(folder, "pretrain --data %d/small.h5 --out %d/a --steps 2" + small_network);
    const auto large = cover_with(folder, "pretrain --data %d/large.h5 --out %d/b --steps 2" + small_network);
    REQUIRE_MESSAGE(small.code == 0, small.err);
    REQUIRE_MESSAGE(large.code == 0, large.err);
    CAPTURE(small.peak_bytes);
    CAPTURE(large.peak_bytes);
    // The loader's buffers, three batches of two volumes as floats, may be full in one run and not in the other.
    const std::int64_t buffers = std::int64_t{3} * 2 * 4 * 128 * 128 * 128;
    CHECK(std::abs(large.peak_bytes - small.peak_bytes) < buffers);
    CHECK(large.peak_bytes < std::int64_t{600} << 20);
    // So large a file is named by some of its images and the last.
    const std::string hash = PatchFile::open({folder.path() + "/large.h5"}).content_hash();
    write_sparse(folder.path() + "/large.h5", 10240, 1);
    CHECK(PatchFile::open({folder.path() + "/large.h5"}).content_hash() != hash);
}

}  // namespace cover
