#include "core/check.h"

#include <fmt/format.h>

namespace cover {

namespace {

// Sentences quote names out of files: what a terminal would obey is written as \xNN, and no file fills the screen.
std::string printable(const std::string& sentence) {
    constexpr std::size_t longest = 16384;
    std::string out;
    for (const char c : sentence) {
        if (out.size() >= longest) return out + " ... (shortened)";
        const auto code = static_cast<unsigned char>(c);
        if ((code < 32 && c != '\n' && c != '\t') || code == 127)
            out += fmt::format("\\x{:02x}", code);
        else
            out += c;
    }
    return out;
}

}  // namespace

Error::Error(ErrorKind kind, const std::string& sentence) : std::runtime_error(printable(sentence)), kind_(kind) {}

void fail(ErrorKind kind, const std::string& sentence) { throw Error(kind, sentence); }

namespace detail {
void append(std::string& out, std::string_view part) { out.append(part); }
void append(std::string& out, const char* part) { out.append(part); }
void append(std::string& out, const std::string& part) { out.append(part); }
void append(std::string& out, double part) { out += fmt::format("{}", part); }
void append(std::string& out, bool part) { out += part ? "true" : "false"; }
void append(std::string& out, int part) { out += fmt::format("{}", part); }
void append(std::string& out, unsigned part) { out += fmt::format("{}", part); }
void append(std::string& out, long part) { out += fmt::format("{}", part); }
void append(std::string& out, unsigned long part) { out += fmt::format("{}", part); }
void append(std::string& out, long long part) { out += fmt::format("{}", part); }
void append(std::string& out, unsigned long long part) { out += fmt::format("{}", part); }
}  // namespace detail

}  // namespace cover
