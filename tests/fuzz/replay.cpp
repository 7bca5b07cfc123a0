// cover_replay TARGET FILE...: what libFuzzer does with each file, without libFuzzer: for the test run, for a compiler
// that has none, and for a debugger. Prints how many files it read.
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/file.h"
#include "tests/fuzz/targets.h"

int main(int argc, char** argv) {
    for (const auto& target : cover::fuzz::targets()) {
        if (argc < 3 || std::strcmp(argv[1], target.name) != 0) continue;
        int files = 0;
        for (int i = 2; i < argc; ++i) {
            std::error_code error;
            std::vector<std::string> paths = {argv[i]};
            if (std::filesystem::is_directory(argv[i], error)) {
                paths.clear();
                for (const auto& entry : std::filesystem::directory_iterator(argv[i]))
                    paths.push_back(entry.path().string());
            }
            for (const std::string& path : paths) {
                const std::string bytes = cover::read_file(path);
                std::fprintf(stderr, "%s\n", path.c_str());  // the last line before a crash names the file
                // A copy of exactly this size, so that a sanitizer sees the first byte that is read behind it.
                const std::vector<unsigned char> copy(bytes.begin(), bytes.end());
                target.run(copy.data(), copy.size());
                ++files;
            }
        }
        std::printf("%d files\n", files);
        return 0;
    }
    std::fprintf(stderr, "usage: cover_replay TARGET FILE|FOLDER...; targets:");
    for (const auto& target : cover::fuzz::targets()) std::fprintf(stderr, " %s", target.name);
    std::fprintf(stderr, "\n");
    return 2;
}
