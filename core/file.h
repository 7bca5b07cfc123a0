// Reading and writing whole files. A file that is written here is complete or absent: bytes go to a neighbour of the
// same folder, are flushed to the disk and renamed into place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cover {

// Throws Error(io) when the file cannot be opened or read, Error(data) when it holds more than `limit` bytes.
std::string read_file(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 30);

// Creates the folder and its parents; fine when it is there. Throws Error(io).
void create_folder(const std::string& path);

// The file written in pieces: commit() flushes, renames and flushes the folder. Without a commit the destructor
// removes what was written and an older file of that name stays as it was. Every failure is an Error(io) with the path
// and the system's reason (disk full, no permission).
class AtomicFile {
public:
    explicit AtomicFile(const std::string& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(const void* data, std::size_t bytes);
    void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
    void commit();

    // For libraries that open by name (HDF5): write here, then commit(). The file exists and is empty.
    const std::string& aside() const { return aside_; }

private:
    std::string path_, aside_;
    int file_ = -1;
};

void write_file(const std::string& path, std::string_view bytes);

}  // namespace cover
