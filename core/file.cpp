#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/check.h"

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
    std::filesystem::create_directories(path, error);
    require(!error, ErrorKind::io, "[file] ", path, ": the folder cannot be created: ", error.message());
    require(std::filesystem::is_directory(path, error), ErrorKind::io, "[file] ", path,
            ": is no folder; name another place");
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
    static std::atomic<unsigned> counter{0};
    aside_ = text(path, ".writing-", static_cast<int>(::getpid()), "-", counter++);
    file_ = uninterrupted([&] { return ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
    require(file_ >= 0, ErrorKind::io, "[file] ", path, ": cannot be written: ", reason(errno));
}

AtomicFile::~AtomicFile() {
    if (file_ < 0) return;
    ::close(file_);
    ::unlink(aside_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
        const auto done = uninterrupted([&] { return ::write(file_, at, bytes); });
        require(done >= 0, ErrorKind::io, "[file] ", path_, ": cannot be written: ", reason(errno));
        at += done;
        bytes -= static_cast<std::size_t>(done);
    }
}

void AtomicFile::commit() {
    require(file_ >= 0, ErrorKind::internal, "[file] ", path_, ": committed twice");
    require(::fsync(file_) == 0, ErrorKind::io, "[file] ", path_, ": cannot be flushed: ", reason(errno));
    const int closing = ::close(file_);
    const int code = errno;
    file_ = -1;
    bool renamed = false;
    int rename_code = 0;
    if (closing == 0) {
        renamed = ::rename(aside_.c_str(), path_.c_str()) == 0;
        rename_code = errno;
    }
    if (!renamed) ::unlink(aside_.c_str());
    require(closing == 0, ErrorKind::io, "[file] ", path_, ": cannot be closed: ", reason(code));
    require(renamed, ErrorKind::io, "[file] ", path_, ": cannot be put into place: ", reason(rename_code));
    // Some file systems cannot flush a folder (EINVAL); the file itself is on the disk by now.
    const Descriptor folder(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.get() >= 0 && ::fsync(folder.get()) != 0)
        require(errno == EINVAL || errno == EROFS, ErrorKind::io, "[file] ", path_,
                ": its folder cannot be flushed: ", reason(errno));
}

void write_file(const std::string& path, std::string_view bytes) {
    AtomicFile file(path);
    file.write(bytes);
    file.commit();
}

}  // namespace cover
