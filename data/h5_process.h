// The parent's side of the child process that looks at an HDF5 file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cover {

// The program's hidden first argument.
inline constexpr const char* h5_child_argument = "__look-at-hdf5";
// Of the child's processor time; and of waiting for an answer, on a machine that is busy otherwise.
inline constexpr int h5_time_limit_seconds = 20;
inline constexpr int h5_patience_seconds = 60;
inline constexpr std::int64_t h5_max_answer_bytes = std::int64_t{64} << 20;

// Set by run_child_if_asked(): a program whose main() does not call it must not start itself again.
void h5_child_is_served();

class H5Child {
public:
    // Starts this program with {h5_child_argument, mode, argument}; its standard input is the file behind `file`.
    // Throws Error(io) when it cannot be started.
    H5Child(int file, const std::string& mode, const std::string& argument, std::string path);
    ~H5Child();
    H5Child(const H5Child&) = delete;
    H5Child& operator=(const H5Child&) = delete;

    // All that the child says, until it ends. Throws Error(data) when it dies, takes longer than the limit or says
    // more than h5_max_answer_bytes.
    std::string answer();
    // Exactly `bytes` bytes; the time limit holds for each call.
    void read(unsigned char* out, std::int64_t bytes);

    // The most memory that an H5 child of this process has needed, of those that have ended since the last call. The
    // system counts from before the child became another program, when it still shared this process's memory.
    static std::int64_t take_largest_bytes();

private:
    // Bytes read; 0 at the end. Throws Error(data) at the deadline.
    std::int64_t read_some(unsigned char* out, std::int64_t bytes, double deadline);
    // Waits for the child and throws when it did not end well.
    void finish();
    [[noreturn]] void fail_slow() const;
    void kill();

    std::string path_;
    pid_t pid_ = -1;
    int pipe_ = -1;
};

}  // namespace cover
