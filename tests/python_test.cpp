// The Python scripts that hold this program to PyTorch. They skip themselves (exit 77) where PyTorch is absent;
// COVER_PYTHON names another interpreter than python3.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/prepare.h"
#include "tests/reader_dump.h"
#include "tests/support.h"

namespace cover::test {
namespace {

void run_script(const std::string& script, const std::string& arguments) {
    const TemporaryFolder folder;
    const std::string log = folder.path() + "/log";
    const char* interpreter = std::getenv("COVER_PYTHON");
    const std::string command = std::string(interpreter ? interpreter : "python3") +
                                " '" COVER_SOURCE_DIR "/tests/python/" + script + "' " + arguments + " > '" + log +
                                "' 2>&1";
    const int status = std::system(command.c_str());
    REQUIRE(WIFEXITED(status));
    std::stringstream text;
    text << std::ifstream(log).rdbuf();
    const int code = WEXITSTATUS(status);
    if (code == 127) return skip("there is no python3");
    if (code == 77) {
        std::string reason = text.str().substr(0, text.str().find('\n'));
        return skip(reason.substr(reason.starts_with("skipped: ") ? 9 : 0));
    }
    INFO(text.str());
    CHECK(code == 0);
}

std::string golden_files() {
    std::string files;
    for (const auto& entry : std::filesystem::directory_iterator(COVER_SOURCE_DIR "/tests/golden"))
        if (entry.path().filename().string().starts_with("cover")) files += " '" + entry.path().string() + "'";
    REQUIRE(!files.empty());
    return files;
}

}  // namespace

TEST_CASE("python: COVER in PyTorch reproduces the golden numbers") { run_script("check_golden.py", golden_files()); }

TEST_CASE("python: the exported cover_unet.py needs torch alone and agrees with cover") {
    run_script("unet_module.py", "--cover '" COVER_PROGRAM "'" + golden_files());
}

TEST_CASE("python: the tables of gpu-bench find every pass, and the floor of a step is what it is by hand") {
    run_script("gpu_tables.py", "--cover '" COVER_PROGRAM "'");
}

TEST_CASE("python: an .npz becomes a patch file that cover reads") {
    run_script("npz_to_patches.py", "--cover '" COVER_PROGRAM "'");
}

TEST_CASE("python: weights travel to PyTorch and back, and mean the same there") {
    run_script("weights_load.py", "run --cover '" COVER_PROGRAM "'");
}

TEST_CASE("python: NIfTI, PNG, JPEG and HDF5 files are read as nibabel, Pillow and h5py read them") {
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder.path() + "/dump");
    std::filesystem::create_directories(folder.path() + "/made");
    PrepareOptions options;
    options.inputs = {COVER_SOURCE_DIR "/data/samples/volumes/heldout"};
    options.size = {48};
    options.out = folder.path() + "/made/volumes.h5";
    prepare(options);
    std::vector<std::string> folders = {COVER_SOURCE_DIR "/data/samples/volumes",
                                        COVER_SOURCE_DIR "/data/samples/heldout", COVER_SOURCE_DIR "/tests/readers",
                                        folder.path() + "/made"};
    // A folder of more of them.
    if (const char* more = std::getenv("COVER_READER_TESTS"); more && *more) folders.emplace_back(more);
    CHECK(dump_readers(folders, folder.path() + "/dump") > 30);
    run_script("check_readers.py", "'" + folder.path() + "/dump'");
}

}  // namespace cover::test
