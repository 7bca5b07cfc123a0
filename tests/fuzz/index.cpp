// index.csv of a folder of images: which of them are taken, and whose they are.
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "data/prepare_inputs.h"
#include "tests/fuzz/targets.h"

namespace cover::fuzz {
namespace {

struct Folder {
    std::string path;
    Folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "cover-fuzz-XXXXXX").string();
        if (!mkdtemp(pattern.data())) broken("no temporary folder");
        path = pattern;
        for (const char* name : {"a.png", "b.png", "c.jpg"}) std::ofstream(path + "/" + name) << "x";
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

}  // namespace

void index(const unsigned char* data, std::size_t size) {
    static const Folder folder;
    std::ofstream(folder.path + "/index.csv", std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    for (const char* split : {"", "train"})
        only(ErrorKind::data, [&] {
            PrepareOptions options;
            options.inputs = {folder.path};
            options.split = split;
            std::vector<BadInput> bad;
            const auto inputs = find_inputs(options, bad);
            if (inputs.size() > 3 || (!*split && inputs.size() != 3)) broken("another number of images than there are");
            for (const InputFile& input : inputs)
                if (input.subject.empty()) broken("an image without a subject");
        });
}

}  // namespace cover::fuzz
