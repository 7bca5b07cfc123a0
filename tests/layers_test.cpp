// Holds every #include to the layers of docs/architecture.md:
//   core <- kernels <- autograd <- nn <- cover <- app;  data sees core and kernels;  cover sees of data only loader.h.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support.h"

namespace cover::test {
namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> sees{
    {"core", {"core"}},
    {"kernels", {"core", "kernels"}},
    {"autograd", {"core", "kernels", "autograd"}},
    {"nn", {"core", "kernels", "autograd", "nn"}},
    {"data", {"core", "kernels", "data"}},
    {"cover", {"core", "kernels", "autograd", "nn", "cover"}},
    {"app", {"core", "kernels", "autograd", "nn", "data", "cover", "app"}},
};

bool starts_with_any(const std::string& text, std::initializer_list<const char*> prefixes) {
    for (const char* prefix : prefixes)
        if (text.starts_with(prefix)) return true;
    return false;
}

// Why a line "#include <target>" or "#include "target"" may not stand in `file` (relative to the repository); empty
// when it may.
std::string include_problem(const std::string& file, const std::string& target, bool quoted) {
    const std::string layer = file.substr(0, file.find('/'));
    const std::string extension = fs::path(file).extension();
    if (quoted) {
        const std::string other = target.substr(0, target.find('/'));
        if (!sees.contains(other)) return "a quoted include starts with the folder of a layer";
        if (layer == "cover" && target == "data/loader.h") return "";
        if (!sees.at(layer).contains(other)) return layer + " does not see " + other;
        return "";
    }
    if (layer != "data" && starts_with_any(target, {"hdf5", "H5"})) return "only data includes HDF5";
    if (layer != "app" && starts_with_any(target, {"CLI/", "toml++/"})) return "only app reads options";
    const bool seen_by_nvcc =
        extension == ".cu" || extension == ".cuh" || ((layer == "core" || layer == "kernels") && extension == ".h");
    if (seen_by_nvcc && starts_with_any(target, {"fmt/", "nlohmann/", "CLI/"}))
        return "what nvcc compiles includes no fmt, JSON or CLI11";
    return "";
}

// Sentences "file:line: why" for one file's text.
std::vector<std::string> problems_of(const std::string& file, std::istream& text) {
    static const std::regex include(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"].*)");
    static const std::regex main_function(R"(^\s*(extern "C"\s+)?int\s+main\s*\(.*)");
    std::vector<std::string> problems;
    std::string line;
    for (int number = 1; std::getline(text, line); ++number) {
        std::smatch match;
        std::string why;
        if (std::regex_match(line, match, include)) why = include_problem(file, match[2], match[1] == "\"");
        if (file != "app/main.cpp" && std::regex_match(line, main_function)) why = "only app/main.cpp has a main";
        if (!why.empty()) problems.push_back(file + ":" + std::to_string(number) + ": " + why + ": " + line);
    }
    return problems;
}

std::size_t problem_count(const std::string& file, const std::string& text) {
    std::istringstream stream(text);
    return problems_of(file, stream).size();
}

}  // namespace

TEST_CASE("layers: every include goes downwards") {
    const fs::path root = COVER_SOURCE_DIR;
    int files = 0;
    for (const auto& [layer, visible] : sees) {
        for (const auto& entry : fs::recursive_directory_iterator(root / layer)) {
            const std::string extension = entry.path().extension();
            if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
            ++files;
            std::ifstream text(entry.path());
            REQUIRE(text.good());
            for (const std::string& problem : problems_of(fs::relative(entry.path(), root), text)) FAIL_CHECK(problem);
        }
    }
    CHECK(files > 50);
}

TEST_CASE("layers: a wrong include is found, a right one is not") {
    CHECK(problem_count("kernels/conv.h", "#include \"core/view.h\"\n#include <vector>\n") == 0);
    CHECK(problem_count("cover/trainer.cpp", "#include \"data/loader.h\"\n") == 0);
    CHECK(problem_count("app/main.cpp", "int main(int argc, char** argv) {\n") == 0);
    CHECK(problem_count("data/h5.cpp", "#include <hdf5.h>\n") == 0);
    CHECK(problem_count("core/check.cpp", "#include <fmt/format.h>\n") == 0);

    CHECK(problem_count("core/shape.h", "\n#include \"kernels/conv.h\"\n") == 1);
    CHECK(problem_count("kernels/cpu/conv.cpp", "#include \"autograd/var.h\"\n") == 1);
    CHECK(problem_count("data/patches.cpp", "  #  include \"cover/config.h\"\n") == 1);
    CHECK(problem_count("cover/trainer.cpp", "#include \"data/patches.h\"\n") == 1);
    CHECK(problem_count("nn/unet.cpp", "#include \"cover/mov.h\"\n") == 1);
    CHECK(problem_count("cover/mov.cpp", "#include \"pyramid.h\"\n") == 1);
    CHECK(problem_count("cover/views.cpp", "#include <hdf5.h>\n") == 1);
    CHECK(problem_count("core/check.h", "#include <fmt/format.h>\n") == 1);
    CHECK(problem_count("kernels/cuda/conv.cu", "#include <nlohmann/json.hpp>\n") == 1);
    CHECK(problem_count("cover/config.cpp", "#include <CLI/CLI.hpp>\n") == 1);
    CHECK(problem_count("data/h5.cpp", "int main() {\n") == 1);
}

}  // namespace cover::test
