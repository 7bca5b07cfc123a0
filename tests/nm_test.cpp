// A unit compiled for AVX2 or AVX-512 must not leave behind a weak function that the linker could take for everybody:
// a machine without those instructions would then die in, say, a std::vector's member. So every weak function of such
// a unit belongs to the namespace of its instruction set.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support.h"

namespace cover::test {
namespace {

struct Units {
    std::map<std::string, int> count;   // instruction set -> object files
    std::vector<std::string> problems;  // "object: symbol"
};

// The output of `nm -C` on an archive: a line "object.o:" before the symbols of each.
Units inspect(std::istream& text) {
    static const std::regex header(R"(^(\S+\.o):$)");
    static const std::regex symbol(R"(^[0-9a-f]+ ([A-Za-z]) (.*)$)");
    static const std::regex isa_namespace(R"(::(avx2|avx512)::)");
    static const std::regex isa_name(R"(_(avx2|avx512)\.)");
    Units units;
    std::string object, line;
    std::set<std::string> isas;
    std::vector<std::string> weak;
    const auto close = [&] {
        for (const std::string& isa : isas) {
            ++units.count[isa];
            for (const std::string& name : weak)
                if (name.find("::" + isa + "::") == std::string::npos)
                    units.problems.push_back(object + ": weak symbol outside namespace " + isa + ": " + name);
        }
        isas.clear();
        weak.clear();
    };
    while (std::getline(text, line)) {
        std::smatch match;
        if (std::regex_match(line, match, header)) {
            close();
            object = match[1];
            if (std::regex_search(object, match, isa_name)) isas.insert(match[1]);
        } else if (std::regex_match(line, match, symbol)) {
            const std::string kind = match[1], name = match[2];
            if (kind == "W") weak.push_back(name);
            // What a unit defines for others, its name up to the arguments: those may mention any namespace.
            const std::string head = name.substr(0, name.find('('));
            if ((kind == "T" || kind == "D" || kind == "R") && std::regex_search(head, match, isa_namespace))
                isas.insert(match[1]);
        }
    }
    close();
    return units;
}

Units inspect(const std::string& text) {
    std::istringstream stream(text);
    return inspect(stream);
}

std::string output_of(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
    REQUIRE(pipe);
    std::string text;
    std::array<char, 65536> buffer;
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) text.append(buffer.data(), n);
    return text;
}

std::string symbols_of(const std::string& arguments) { return output_of("nm " + arguments); }

// The mangled names that `nm` says are defined, of what belongs to cover::cuda::BUILD or names it.
std::set<std::string> defined_in(const std::string& text, const std::string& build) {
    const std::string prefix = "N5cover4cuda" + std::to_string(build.size()) + build;
    std::set<std::string> names;
    std::istringstream lines(text);
    for (std::string address, kind, name, line; std::getline(lines, line);) {
        std::istringstream words(line);
        if (words >> address >> kind >> name && kind != "U" && name.find(prefix) != std::string::npos)
            names.insert(name);
    }
    return names;
}

}  // namespace

TEST_CASE("cuda: the two builds of one source define no symbol in common") {
    if (std::system("nm --version > /dev/null 2>&1") != 0) return skip("nm is not installed");
    const std::string native = COVER_CUDA_LIBRARY;
    const std::string emulated_symbols = symbols_of("'" COVER_EMULATED_ARCHIVE "' 2>/dev/null");
    CHECK(defined_in(emulated_symbols, "emulated").size() > 100);
    CHECK(defined_in(emulated_symbols, "native").empty());
    if (native.empty()) return skip("no nvcc: there is one build only");
    const std::string native_symbols = symbols_of("'" + native + "'");
    CHECK(defined_in(native_symbols, "native").size() > 100);
    CHECK(defined_in(native_symbols, "emulated").empty());
}

TEST_CASE("cuda: the library with the CUDA rows loads where there is no driver") {
    const std::string library = COVER_CUDA_LIBRARY;
    if (library.empty()) return skip("no nvcc: there is no such library");
    if (std::system("readelf --version > /dev/null 2>&1") != 0) return skip("readelf is not installed");
    const std::string needed = output_of("readelf -d '" + library + "'");
    CHECK(needed.find("(NEEDED)") != std::string::npos);
    for (const char* absent : {"libcuda.", "libcudart", "libcublas", "libcudnn"})
        CHECK_MESSAGE(needed.find(absent) == std::string::npos, needed);
}

TEST_CASE("instruction sets: no unit leaves a weak function outside its namespace") {
    if (std::system("nm --version > /dev/null 2>&1") != 0) return skip("nm is not installed");
    const Units units = inspect(symbols_of("-C '" COVER_KERNEL_ARCHIVE "'"));
    CHECK(units.count.contains("avx2"));
    CHECK(units.count.contains("avx512"));
    for (const std::string& problem : units.problems) FAIL_CHECK(problem);
}

TEST_CASE("instruction sets: a weak function outside the namespace is found") {
    const std::string good =
        "\nnorm_simd.cpp.o:\n"
        "0000000000000000 T cover::cpu::avx512::norm_kernels()\n"
        "0000000000000010 W cover::cpu::avx512::Lanes::sum() const\n"
        "\nconv.cpp.o:\n"
        "0000000000000000 T cover::conv(cover::cpu::avx512::Kernels const&)\n"
        "0000000000000000 W std::vector<float, std::allocator<float> >::push_back(float&&)\n";
    CHECK(inspect(good).problems.empty());
    CHECK(inspect(good).count == std::map<std::string, int>{{"avx512", 1}});
    CHECK(inspect(good + "\npool_avx512.cpp.o:\n0000000000000000 W std::vector<float>::reserve(unsigned long)\n")
              .problems.size() == 1);
    CHECK(inspect(good + "\npool_simd.cpp.o:\n0000000000000000 T cover::cpu::avx2::pool()\n"
                         "0000000000000000 W float cover::square<float>(float)\n")
              .problems.size() == 1);
    CHECK(inspect(good + "\npool_simd.cpp.o:\n0000000000000000 D cover::cpu::avx2::pool_kernels\n"
                         "0000000000000000 W float cover::square<float>(float)\n")
              .problems.size() == 1);
}

}  // namespace cover::test
