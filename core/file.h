// Reading and writing whole files and folders. What is written here is complete or absent: bytes go to a neighbour of
// the same folder, are flushed to the disk and renamed into place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cover {

class Sha256;

// Throws Error(io) when the file cannot be opened or read, Error(data) when it holds more than `limit` bytes.
std::string read_file(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 30);

// Creates the folder and its parents and flushes the names; fine when it is there. Throws Error(io).
void create_folder(const std::string& path);

// A new file, written in pieces of 64 KiB: few calls for many small tensors, and none that holds the process for long.
// Without close() the destructor removes it. Every failure is an Error(io) with the path
// and the system's reason (disk full, quota, largest size, input/output error, no permission). An interrupted call is
// repeated and a short write continued.
class FileWriter {
public:
    static constexpr std::size_t piece = 65536;  // bytes

    // Fails when `path` exists. `shown`: the path that messages name, where it is another one.
    explicit FileWriter(const std::string& path, const std::string& shown = {});
    ~FileWriter();
    FileWriter(const FileWriter&) = delete;
    FileWriter& operator=(const FileWriter&) = delete;

    // Asks the file system for the room of the whole file, so that a full disk is found before a byte is written. Does
    // nothing on a file system that cannot promise any.
    void reserve(std::uint64_t bytes);
    // From now on `hash` sees every byte that is written.
    void track(Sha256& hash) { hash_ = &hash; }
    void write(const void* data, std::size_t bytes);
    void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
    // Flushes to the disk and closes; the file stays.
    void close();

private:
    void hand_over();

    std::string path_, shown_;
    std::string waiting_;  // less than a piece
    Sha256* hash_ = nullptr;
    int file_ = -1;
    bool stays_ = false;
};

// The file written in pieces: commit() flushes, renames and flushes the folder. Without a commit the destructor
// removes what was written and an older file of that name stays as it was. Failures as those of FileWriter.
class AtomicFile {
public:
    // Throws Error(io) as well when something other than a file (a folder, a device) stands at `path`.
    explicit AtomicFile(const std::string& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    FileWriter& writer() { return *writer_; }
    void write(const void* data, std::size_t bytes) { writer_->write(data, bytes); }
    void write(std::string_view bytes) { writer_->write(bytes); }
    void commit();

    // For libraries that open by name (HDF5): write here, then commit(). The file exists and is empty.
    const std::string& aside() const { return aside_; }

private:
    std::string path_, aside_;
    std::unique_ptr<FileWriter> writer_;
};

// A folder that is complete or absent: its files are written into aside(), each flushed by its own FileWriter, and
// commit() flushes that folder, renames it into place and flushes the parent, which must exist. A folder of that name
// is replaced and removed afterwards. Without a commit the destructor removes what was written.
class AtomicFolder {
public:
    explicit AtomicFolder(const std::string& path);
    ~AtomicFolder();
    AtomicFolder(const AtomicFolder&) = delete;
    AtomicFolder& operator=(const AtomicFolder&) = delete;

    const std::string& aside() const { return aside_; }
    void commit();

private:
    std::string path_, aside_;
    bool open_ = false;
};

void write_file(const std::string& path, std::string_view bytes);

// Takes the folder's name away first, so that a removal that breaks off leaves no half of it under that name. Throws
// Error(io).
void remove_folder(const std::string& path);

// Whether a name is one that AtomicFile or AtomicFolder writes aside under, or remove_folder takes away: what a killed
// process leaves behind.
bool is_written_aside(const std::string& path);

// Throws Error(io), which begins with `what`, unless the file system of `folder` has room for so many bytes more: by
// its own count, and by really asking for a file of that size, which quota and largest file size may refuse.
void require_room(const std::string& folder, std::uint64_t bytes, const std::string& what);

}  // namespace cover
