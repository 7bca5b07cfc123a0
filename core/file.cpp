#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/check.h"
#include "core/hash.h"

namespace cover {
namespace {

std::string reason(int code) { return std::generic_category().message(code); }

std::string folder_of(const std::string& path) {
    const auto parent = std::filesystem::path(path).parent_path().string();
    return parent.empty() ? "." : parent;
}

// Retries an interrupted call. close() is not among them: on Linux the descriptor is gone even when it says EINTR.
template <class Call>
auto uninterrupted(Call call) {
    auto result = call();
    while (result < 0 && errno == EINTR) result = call();
    return result;
}

class Descriptor {
public:
    explicit Descriptor(int file) : file_(file) {}
    ~Descriptor() {
        if (file_ >= 0) ::close(file_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return file_; }

private:
    int file_;
};

constexpr const char* aside_mark = ".writing-";

std::string aside_name(const std::string& path) {
    static std::atomic<unsigned> counter{0};
    return text(path, aside_mark, static_cast<int>(::getpid()), "-", counter++);
}

void put_in_place(const std::string& aside, const std::string& path) {
    require(uninterrupted([&] { return ::rename(aside.c_str(), path.c_str()); }) == 0, ErrorKind::io, "[file] ", path,
            ": cannot be put into place: ", reason(errno));
}

// Some file systems cannot flush a folder (EINVAL); what lies in it is on the disk by now.
void flush_folder(const std::string& path) {
    const Descriptor folder(uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (folder.get() < 0 && errno == EACCES) return;  // may be written to, not read
    require(folder.get() >= 0, ErrorKind::io, "[file] ", path, ": the folder cannot be opened: ", reason(errno));
    require(uninterrupted([&] { return ::fsync(folder.get()); }) == 0 || errno == EINVAL || errno == EROFS,
            ErrorKind::io, "[file] ", path, ": the folder cannot be flushed: ", reason(errno));
}

}  // namespace

std::string read_file(const std::string& path, std::uint64_t limit) {
    const Descriptor file(uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
    require(file.get() >= 0, ErrorKind::io, "[file] ", path, ": cannot be opened: ", reason(errno));
    struct stat status {};
    require(::fstat(file.get(), &status) == 0, ErrorKind::io, "[file] ", path, ": ", reason(errno));
    require(!S_ISDIR(status.st_mode), ErrorKind::io, "[file] ", path, ": is a folder; a file is expected");
    const auto promised = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
    require(promised <= limit, ErrorKind::data, "[file] ", path, ": holds ", promised, " bytes; at most ", limit,
            " are expected here");
    std::string bytes;
    bytes.resize(static_cast<std::size_t>(promised));
    std::size_t filled = 0;
    for (;;) {
        if (filled == bytes.size()) bytes.resize(filled + 65536);
        const auto got =
            uninterrupted([&] { return ::read(file.get(), bytes.data() + filled, bytes.size() - filled); });
        require(got >= 0, ErrorKind::io, "[file] ", path, ": cannot be read: ", reason(errno));
        if (got == 0) break;
        filled += static_cast<std::size_t>(got);
        require(filled <= limit, ErrorKind::data, "[file] ", path, ": holds more than the ", limit,
                " bytes that are expected here");
    }
    bytes.resize(filled);
    return bytes;
}

void create_folder(const std::string& path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
        const auto bare = std::filesystem::path(path).has_filename() ? path : path.substr(0, path.size() - 1);
        const auto parent = folder_of(bare);
        if (parent != path && !bare.empty()) create_folder(parent);
        const int made = uninterrupted([&] { return ::mkdir(path.c_str(), 0777); });
        require(made == 0 || errno == EEXIST, ErrorKind::io, "[file] ", path,
                ": the folder cannot be created: ", reason(errno));
        flush_folder(parent);
    }
    require(std::filesystem::is_directory(path, error), ErrorKind::io, "[file] ", path,
            ": is no folder; name another place");
}

FileWriter::FileWriter(const std::string& path, const std::string& shown)
    : path_(path), shown_(shown.empty() ? path : shown) {
    file_ = uninterrupted([&] { return ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
    require(file_ >= 0, ErrorKind::io, "[file] ", shown_, ": cannot be written: ", reason(errno));
}

FileWriter::~FileWriter() {
    if (file_ >= 0) ::close(file_);
    if (!stays_) ::unlink(path_.c_str());
}

void FileWriter::reserve(std::uint64_t bytes) {
    if (bytes == 0) return;
    const int refused = uninterrupted([&] { return ::fallocate(file_, 0, 0, static_cast<off_t>(bytes)); });
    require(refused == 0 || errno == EOPNOTSUPP || errno == ENOSYS, ErrorKind::io, "[file] ", shown_,
            ": there is no room for its ", bytes, " bytes: ", reason(errno));
}

void FileWriter::write(const void* data, std::size_t bytes) {
    if (hash_) hash_->update(data, bytes);
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
        const auto part = std::min(bytes, piece - waiting_.size());
        waiting_.append(at, part);
        at += part;
        bytes -= part;
        if (waiting_.size() == piece) hand_over();
    }
}

void FileWriter::hand_over() {
    for (std::size_t written = 0; written < waiting_.size();) {
        const auto done =
            uninterrupted([&] { return ::write(file_, waiting_.data() + written, waiting_.size() - written); });
        require(done > 0, ErrorKind::io, "[file] ", shown_,
                ": cannot be written: ", done < 0 ? reason(errno) : "the system takes no more bytes");
        written += static_cast<std::size_t>(done);
    }
    waiting_.clear();
}

void FileWriter::close() {
    require(file_ >= 0, ErrorKind::internal, "[file] ", shown_, ": closed twice");
    hand_over();
    require(uninterrupted([&] { return ::fsync(file_); }) == 0, ErrorKind::io, "[file] ", shown_,
            ": cannot be flushed: ", reason(errno));
    const int closing = ::close(file_);
    file_ = -1;
    require(closing == 0 || errno == EINTR, ErrorKind::io, "[file] ", shown_, ": cannot be closed: ", reason(errno));
    stays_ = true;
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), aside_(aside_name(path)) {
    // Renaming would put a plain file in the place of a device such as /dev/null.
    struct stat status {};
    const bool taken = ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
    require(!taken, ErrorKind::io, "[file] ", path, ": is a ", S_ISDIR(status.st_mode) ? "folder" : "device or pipe",
            " and cannot be replaced by a file; name another path");
    writer_ = std::make_unique<FileWriter>(aside_, path);
}

AtomicFile::~AtomicFile() {
    if (writer_) {
        writer_.reset();
        ::unlink(aside_.c_str());
    }
}

void AtomicFile::commit() {
    require(writer_ != nullptr, ErrorKind::internal, "[file] ", path_, ": committed twice");
    writer_->close();
    put_in_place(aside_, path_);
    writer_.reset();
    flush_folder(folder_of(path_));
}

AtomicFolder::AtomicFolder(const std::string& path) : path_(path), aside_(aside_name(path)) {
    require(uninterrupted([&] { return ::mkdir(aside_.c_str(), 0777); }) == 0, ErrorKind::io, "[file] ", path,
            ": the folder cannot be created: ", reason(errno));
    open_ = true;
}

AtomicFolder::~AtomicFolder() {
    if (!open_) return;
    std::error_code ignored;
    std::filesystem::remove_all(aside_, ignored);
}

void AtomicFolder::commit() {
    require(open_, ErrorKind::internal, "[file] ", path_, ": committed twice");
    flush_folder(aside_);
    std::string replaced;
    if (struct stat status{}; ::lstat(path_.c_str(), &status) == 0) {
        replaced = aside_name(path_);
        put_in_place(path_, replaced);
    }
    put_in_place(aside_, path_);
    open_ = false;
    flush_folder(folder_of(path_));
    if (!replaced.empty()) remove_folder(replaced);
}

void write_file(const std::string& path, std::string_view bytes) {
    AtomicFile file(path);
    file.write(bytes);
    file.commit();
}

void remove_folder(const std::string& path) {
    const auto aside = aside_name(path);
    put_in_place(path, aside);
    std::error_code error;
    std::filesystem::remove_all(aside, error);
    require(!error, ErrorKind::io, "[file] ", aside, ": cannot be removed: ", error.message());
}

bool is_written_aside(const std::string& path) {
    return std::filesystem::path(path).filename().string().find(aside_mark) != std::string::npos;
}

void require_room(const std::string& folder, std::uint64_t bytes, const std::string& what) {
    struct statvfs status {};
    if (uninterrupted([&] { return ::statvfs(folder.c_str(), &status); }) == 0) {
        const auto free = static_cast<std::uint64_t>(status.f_bavail) * static_cast<std::uint64_t>(status.f_frsize);
        require(bytes <= free, ErrorKind::io, what, " needs ", bytes, " bytes in ", folder, " and ", free,
                " are free; make room or name another place");
    }
    const auto asked = aside_name(folder + "/room");
    try {
        FileWriter file(asked);
        file.reserve(bytes);
    } catch (const Error& error) {
        fail(ErrorKind::io, text(what, " needs ", bytes, " bytes in ", folder,
                                 ", which the system refuses: ", error.what(), "; make room or name another place"));
    }
}

}  // namespace cover
