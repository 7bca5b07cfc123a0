// Runs that die, or whose disk fails, at a chosen system call of a save (tests/save_shim.cpp), and then go on. `make
// test` takes a few points; COVER_KILL_POINTS=300 in the environment takes so many, as docs/reproducibility.md says.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/file.h"
#include "core/hash.h"
#include "tests/run_program.h"

namespace cover::test {
namespace {

namespace fs = std::filesystem;

// A file of state.safetensors is then of 125 KB, three pieces.
const std::string network =
    "--channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --patch 16 --batch 1 --degree 0.5 --threads 1 --loader-threads 0 ";

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool can_preload = false;
#else
constexpr bool can_preload = true;
#endif

bool cannot_run() {
    if (!can_preload) skip("a sanitizer's library wants to be loaded before any other");
    return !can_preload;
}

int points_wanted(int otherwise) {
    const char* wanted = std::getenv("COVER_KILL_POINTS");
    return wanted ? std::max(1, std::atoi(wanted)) : otherwise;
}

struct Call {
    long number = 0;
    std::string name, path;
};

struct Bench {
    TemporaryFolder folder;
    std::string command;  // of the run, without --out

    explicit Bench(int steps, const std::string& more = "--checkpoint-every 1 --keep 2 ") {
        write_small_patches(folder.path() + "/data.h5", 24);
        command = text("pretrain --data %d/data.h5 --steps ", steps, " ", network, more);
        const auto undisturbed = run_program(folder, command + "--out %d/undisturbed");
        REQUIRE_MESSAGE(undisturbed.code == 0, undisturbed.err);
        weights = sha256_of_file(folder.path() + "/undisturbed/model.safetensors");
    }

    Outcome run_with(const std::string& faults, const std::string& more = "") const {
        return run_program(folder, command + "--out %d/run " + more,
                           "LD_PRELOAD=" COVER_SAVE_SHIM " COVER_FAULT_FOLDER=%d/run " + faults);
    }

    std::vector<Call> calls(const std::string& faults = "") const {
        clear();
        const auto traced = run_with("COVER_FAULT_TRACE=%d/trace " + faults);
        REQUIRE_MESSAGE(traced.code == 0, traced.err);
        std::istringstream lines(read_file(folder.path() + "/trace"));
        fs::remove(folder.path() + "/trace");
        clear();
        std::vector<Call> found;
        for (Call call; lines >> call.number >> call.name >> call.path;) found.push_back(call);
        return found;
    }

    void clear() const { fs::remove_all(folder.path() + "/run"); }

    std::string run_folder() const { return folder.path() + "/run"; }

    // Resumed without a fault, the run ends as the undisturbed one did: log, checkpoints and weights.
    void goes_on(const std::string& where) const {
        const auto resumed = run_program(folder, command + "--out %d/run --resume");
        CHECK_MESSAGE(resumed.code == 0, where << ": " << resumed.err);
        ends_well(where);
    }
    void ends_well(const std::string& where) const {
        CHECK_MESSAGE(sha256_of_file(run_folder() + "/model.safetensors") == weights, where);
        const auto compared = run_program(folder, "verify runs %d/undisturbed %d/run");
        CHECK_MESSAGE(compared.code == 0, where << ": " << compared.out << compared.err);
        CHECK_MESSAGE(fs::exists(run_folder() + "/report.html"), where);
        for (const auto& entry : fs::recursive_directory_iterator(run_folder()))
            CHECK_MESSAGE(!is_written_aside(entry.path().string()), where << " left " << entry.path().string());
    }

    std::string weights;  // SHA-256
};

// `count` of them, evenly spread, the first and the last among them.
std::vector<Call> spread(const std::vector<Call>& calls, int count) {
    if (static_cast<int>(calls.size()) <= count || count < 2) return calls;
    std::vector<Call> some;
    for (int i = 0; i < count; ++i)
        some.push_back(calls[static_cast<std::size_t>(i) * (calls.size() - 1) / static_cast<std::size_t>(count - 1)]);
    return some;
}

std::string name_of(const Call& call) { return text("call ", call.number, ", ", call.name, " ", call.path); }

}  // namespace

TEST_CASE("kill: at any system call of a run, and resumed, the same bits") {
    if (cannot_run()) return;
    const int wanted = points_wanted(7);
    // About 40 calls a save.
    const Bench bench(std::max(3, wanted / 38));
    const auto calls = bench.calls();
    REQUIRE(calls.size() >= 100);
    const auto points = spread(calls, wanted);
    int done = 0;
    for (const std::string how : {"kill", "cut"})
        for (const auto& call : points) {
            const auto where = how + " at " + name_of(call);
            bench.clear();
            const auto killed = bench.run_with(text("COVER_FAULT=", how, " COVER_FAULT_AT=", call.number));
            CHECK_MESSAGE(killed.code == 128 + 9, where << ": exit " << killed.code << " " << killed.err);
            // Every other time the resumed run is killed as well, some calls after its start.
            if (++done % 2 == 0)
                bench.run_with(text("COVER_FAULT=", how, " COVER_FAULT_AT=", 5 + done % 60), "--resume");
            bench.goes_on(where);
        }
    MESSAGE(points.size() << " of " << calls.size() << " calls, each with a kill and with a power cut: " << done
                          << " runs");
}

TEST_CASE("kill: a disk that fails during a save does not end the run") {
    if (cannot_run()) return;
    const Bench bench(3);
    const std::string saves = "COVER_FAULT_ONLY=/checkpoints,/model.safetensors ";
    const auto all = bench.calls(saves);
    std::vector<Call> calls;  // of the second save of three
    for (const auto& call : all)
        if (call.path.find("/step-0000002.") != std::string::npos) calls.push_back(call);
    REQUIRE(calls.size() >= 15);
    const char* reasons[] = {"ENOSPC", "EIO", "EDQUOT", "EFBIG"};
    const int wanted = points_wanted(6);
    const auto points = spread(calls, std::min(wanted, 40));
    std::size_t turn = 0;
    int failed_saves = 0;
    for (const auto& call : points)
        for (std::size_t r = 0; r < (wanted > 40 ? std::size(reasons) : 1); ++r) {
            const char* reason = reasons[turn++ % std::size(reasons)];
            const auto where = text(reason, " at ", name_of(call));
            bench.clear();
            const auto run = bench.run_with(text(saves, "COVER_FAULT=", reason, " COVER_FAULT_AT=", call.number));
            CHECK_MESSAGE(run.code == 0, where << ": " << run.err);
            const bool said = run.err.find("could not be written, the run goes on") != std::string::npos;
            const auto log = read_file(bench.run_folder() + "/log.jsonl");
            CHECK_MESSAGE(said == (log.find("checkpoint_failed") != std::string::npos), where);
            failed_saves += said;
            CHECK_MESSAGE(sha256_of_file(bench.run_folder() + "/model.safetensors") == bench.weights, where);
        }
    // A file system that cannot flush a folder, or remove a file, is not among the failures of a save.
    CHECK(failed_saves >= static_cast<int>(turn) / 2);
    MESSAGE(turn << " runs, " << failed_saves << " failed saves");
}

TEST_CASE("kill: a run that ends without its last checkpoint exits 7, and the previous one loads") {
    if (cannot_run()) return;
    const Bench bench(3);
    const std::string saves = "COVER_FAULT_ONLY=/step-0000003.,/model.safetensors ";
    std::vector<Call> calls;
    for (const auto& call : bench.calls(saves))
        if (call.path.find("/step-0000003.") != std::string::npos && (call.name == "write" || call.name == "fallocate"))
            calls.push_back(call);
    REQUIRE(calls.size() >= 5);
    const char* reasons[] = {"ENOSPC", "EDQUOT", "EFBIG", "EIO"};
    std::size_t turn = 0;
    for (const auto& call : spread(calls, points_wanted(3) > 40 ? 1000 : 3)) {
        const char* reason = reasons[turn++ % std::size(reasons)];
        const auto where = text(reason, " from ", name_of(call), " on");
        bench.clear();
        const auto run =
            bench.run_with(text(saves, "COVER_FAULT_STAYS=1 COVER_FAULT=", reason, " COVER_FAULT_AT=", call.number));
        CHECK_MESSAGE(run.code == 7, where << ": " << run.err);
        CHECK_MESSAGE(run.err.find("step-0000002 stands") != std::string::npos, where << ": " << run.err);
        CHECK(fs::exists(bench.run_folder() + "/checkpoints/step-0000002/manifest.json"));
        CHECK(!fs::exists(bench.run_folder() + "/checkpoints/step-0000003"));
        bench.goes_on(where);
    }
    MESSAGE(turn << " runs");
}

TEST_CASE("kill: short writes and interrupted calls change nothing") {
    if (cannot_run()) return;
    const Bench bench(2);
    const auto calls = bench.calls("COVER_FAULT_CALLS=write,fsync,rename,mkdir,open,fallocate");
    int done = 0;
    for (const auto& call : spread(calls, points_wanted(6) > 40 ? 1000 : 6))
        for (const char* how : {"short", "EINTR"}) {
            if (std::string(how) == "short" && call.name != "write") continue;
            const auto where = text(how, " at ", name_of(call));
            bench.clear();
            const auto run =
                bench.run_with(text("COVER_FAULT_CALLS=write,fsync,rename,mkdir,open,fallocate COVER_FAULT=", how,
                                    " COVER_FAULT_AT=", call.number));
            CHECK_MESSAGE(run.code == 0, where << ": " << run.err);
            bench.ends_well(where);
            ++done;
        }
    MESSAGE(done << " runs");
}

}  // namespace cover::test
