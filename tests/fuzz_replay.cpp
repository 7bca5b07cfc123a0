// Reads every file of tests/fuzz/corpus with the reader that it is for. `make fuzz` looks for new ones.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "core/check.h"
#include "core/file.h"
#include "tests/support.h"

namespace cover {

TEST_CASE("fuzz: every file of the corpus is read or refused with a sentence") {
    const test::TemporaryFolder folder;
    const std::string corpus = COVER_SOURCE_DIR "/tests/fuzz/corpus/";
    for (const std::string target : {"config", "hdf5_facts", "image", "index", "nifti", "safetensors"}) {
        const auto files = std::distance(std::filesystem::directory_iterator(corpus + target), {});
        CAPTURE(target);
        CHECK(files >= 5);
        // A process of its own: a crash is a failed test, not the end of all.
        const std::string log = folder.path() + "/" + target;
        const int status = std::system(
            text("timeout 60 " COVER_REPLAY " ", target, " ", corpus + target, " >", log, ".out 2>", log, ".err")
                .c_str());
        const std::string heard = read_file(log + ".err");
        CHECK_MESSAGE((WIFEXITED(status) && WEXITSTATUS(status) == 0),
                      heard.substr(heard.size() - std::min<std::size_t>(heard.size(), 2000)));
        CHECK(read_file(log + ".out") == text(files, " files\n"));
    }
}

}  // namespace cover
