// Errors are exceptions that carry one sentence: what, where, why and what to do. Only app/main.cpp turns them into an
// exit code. This header includes no formatting library, so that device sources may include it.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cover {

// The value is the exit code of the program.
enum class ErrorKind : int {
    internal = 1,
    usage = 2,
    configuration = 3,
    data = 4,
    device = 5,
    numerical = 6,
    io = 7,
    interrupted = 8,
    verification = 9,
};

class Error : public std::runtime_error {
public:
    Error(ErrorKind kind, const std::string& sentence);
    ErrorKind kind() const { return kind_; }

private:
    ErrorKind kind_;
};

[[noreturn]] void fail(ErrorKind kind, const std::string& sentence);

namespace detail {
void append(std::string& out, std::string_view part);
void append(std::string& out, const char* part);
void append(std::string& out, const std::string& part);
void append(std::string& out, double part);
void append(std::string& out, bool part);
void append(std::string& out, int part);
void append(std::string& out, unsigned part);
void append(std::string& out, long part);
void append(std::string& out, unsigned long part);
void append(std::string& out, long long part);
void append(std::string& out, unsigned long long part);
}  // namespace detail

// text("[conv] expected ", 3, " dims") joins its parts; numbers are written in their shortest exact decimal form.
template <class... Parts>
std::string text(const Parts&... parts) {
    std::string out;
    (detail::append(out, parts), ...);
    return out;
}

// Throws Error(kind, text(parts...)) unless ok. The sentence is only built on failure.
template <class... Parts>
void require(bool ok, ErrorKind kind, const Parts&... parts) {
    if (!ok) [[unlikely]]
        fail(kind, text(parts...));
}

}  // namespace cover
