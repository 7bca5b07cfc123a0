#include "core/check.h"

#include <fmt/format.h>

namespace cover {

Error::Error(ErrorKind kind, const std::string& sentence) : std::runtime_error(sentence), kind_(kind) {}

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
