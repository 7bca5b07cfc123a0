// A library to preload before the program: counts the system calls that touch a folder, and at a chosen one kills the
// process or lets the call fail. What a power cut or a full disk would do, at every point of a save in turn.
//   COVER_FAULT_FOLDER  paths that begin so are looked at
//   COVER_FAULT_ONLY    of these, count paths that contain one of these words (comma-separated); unset: all
//   COVER_FAULT_CALLS   of these, count the calls of these names; unset: all
//   COVER_FAULT_AT      the count at which it happens, from 1; unset: never
//   COVER_FAULT         kill | cut (as a power cut: what was not flushed is lost, then killed) | short (half of a
//   write)
//                       | EINTR | ENOSPC | EIO | EDQUOT | EFBIG
//   COVER_FAULT_STAYS   if set, from then on every call that needs room in the folder fails so, counted or not
//   COVER_FAULT_TRACE   a file that gets a line "count call path" for each counted call
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum class What { nothing, kill, cut, shortened, failure };

struct Fault {
    const char* folder = std::getenv("COVER_FAULT_FOLDER");
    const char* only = std::getenv("COVER_FAULT_ONLY");
    const char* calls = std::getenv("COVER_FAULT_CALLS");
    const char* trace = std::getenv("COVER_FAULT_TRACE");
    bool stays = std::getenv("COVER_FAULT_STAYS") != nullptr;
    long at = 0, count = 0;
    What what = What::nothing;
    int code = 0;
    bool happened = false;

    Fault() {
        if (const char* number = std::getenv("COVER_FAULT_AT")) at = std::atol(number);
        const char* name = std::getenv("COVER_FAULT");
        const struct {
            const char* name;
            What what;
            int code;
        } known[] = {{"kill", What::kill, 0},           {"cut", What::cut, 0},
                     {"short", What::shortened, 0},     {"EINTR", What::failure, EINTR},
                     {"ENOSPC", What::failure, ENOSPC}, {"EIO", What::failure, EIO},
                     {"EDQUOT", What::failure, EDQUOT}, {"EFBIG", What::failure, EFBIG}};
        for (const auto& k : known)
            if (name && std::strcmp(name, k.name) == 0) {
                what = k.what;
                code = k.code;
            }
    }
};

Fault& fault() {
    static Fault instance;
    return instance;
}

constexpr int most_files = 4096;
char* path_of_file[most_files];  // of descriptors in the folder

// A file whose last bytes may lie in the cache only, under the name that it has now.
struct Unflushed {
    char path[512];
    off_t flushed;  // bytes that are on the disk
};
constexpr int most_unflushed = 64;
Unflushed unflushed[most_unflushed];
int unflushed_count = 0;

Unflushed* find_unflushed(const char* path) {
    for (int i = 0; i < unflushed_count; ++i)
        if (std::strcmp(unflushed[i].path, path) == 0) return &unflushed[i];
    return nullptr;
}

void note_write(const char* path, off_t size_before) {
    if (find_unflushed(path)) return;
    if (unflushed_count == most_unflushed || std::strlen(path) >= sizeof unflushed[0].path) std::abort();
    std::strcpy(unflushed[unflushed_count].path, path);
    unflushed[unflushed_count++].flushed = size_before;
}

void forget(const char* path) {
    if (Unflushed* u = find_unflushed(path)) *u = unflushed[--unflushed_count];
}

// A file, or all files of a folder.
void note_rename(const char* from, const char* to) {
    forget(to);
    const std::size_t length = std::strlen(from);
    for (int i = 0; i < unflushed_count; ++i) {
        char* path = unflushed[i].path;
        if (std::strncmp(path, from, length) != 0 || (path[length] != '/' && path[length] != 0)) continue;
        char renamed[sizeof unflushed[0].path];
        std::snprintf(renamed, sizeof renamed, "%s%s", to, path + length);
        std::strcpy(path, renamed);
    }
}

void lose_what_was_not_flushed() {
    for (int i = 0; i < unflushed_count; ++i) syscall(SYS_truncate, unflushed[i].path, unflushed[i].flushed);
}

bool inside(const char* path) {
    const char* folder = fault().folder;
    return folder && path && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

// Whether `word` is one of a comma-separated list, or with `part` contains one of them.
bool listed(const char* list, const char* word, bool part) {
    if (!list) return true;
    for (const char* at = list; *at;) {
        const std::size_t length = std::strcspn(at, ",");
        char item[64] = {};
        if (length < sizeof item) std::memcpy(item, at, length);
        if (part ? std::strstr(word, item) != nullptr : std::strcmp(word, item) == 0) return true;
        at += length + (at[length] == ',');
    }
    return false;
}

// True when this call is to fail with errno set. `half`: set where half of it is to be done.
bool strikes(const char* call, const char* path, bool needs_room, bool* half = nullptr) {
    Fault& f = fault();
    if (!inside(path)) return false;
    if (f.happened && f.stays && needs_room && f.what == What::failure) {
        errno = f.code;
        return true;
    }
    if (!listed(f.only, path, true) || !listed(f.calls, call, false)) return false;
    ++f.count;
    if (f.trace) {
        char line[1200];
        const int length = std::snprintf(line, sizeof line, "%ld %s %s\n", f.count, call, path);
        const long file = syscall(SYS_openat, AT_FDCWD, f.trace, O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (file >= 0) {
            syscall(SYS_write, file, line, static_cast<std::size_t>(length));
            syscall(SYS_close, file);
        }
    }
    if (f.count != f.at) return false;
    f.happened = true;
    if (f.what == What::kill || f.what == What::cut) {
        if (f.what == What::cut) lose_what_was_not_flushed();
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    } else if (f.what == What::shortened) {
        if (half) *half = true;
    } else if (f.what == What::failure) {
        errno = f.code;
        return true;
    }
    return false;
}

template <class Function>
Function* real(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

const char* path_of(int file) { return file >= 0 && file < most_files ? path_of_file[file] : nullptr; }

void remember(int file, const char* path) {
    if (file < 0 || file >= most_files) return;
    std::free(path_of_file[file]);
    path_of_file[file] = nullptr;
    if (path && inside(path)) path_of_file[file] = strdup(path);
}

// The path of an entry of an open folder, as openat() and unlinkat() name it.
const char* joined(int folder, const char* name, char* out, std::size_t room) {
    const char* parent = path_of(folder);
    if (!parent || name[0] == '/') return name;
    std::snprintf(out, room, "%s/%s", parent, name);
    return out;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const auto mode = static_cast<mode_t>((flags & O_CREAT) ? va_arg(rest, int) : 0);
    va_end(rest);
    if (strikes("open", path, (flags & O_CREAT) != 0)) return -1;
    const int file = real<int(const char*, int, ...)>("open")(path, flags, mode);
    remember(file, path);
    return file;
}

int openat(int folder, const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const auto mode = static_cast<mode_t>((flags & O_CREAT) ? va_arg(rest, int) : 0);
    va_end(rest);
    char whole[1024];
    const char* at = joined(folder, path, whole, sizeof whole);
    if (strikes("openat", at, (flags & O_CREAT) != 0)) return -1;
    const int file = real<int(int, const char*, int, ...)>("openat")(folder, path, flags, mode);
    remember(file, at);
    return file;
}

ssize_t write(int file, const void* data, size_t bytes) {
    bool half = false;
    if (strikes("write", path_of(file), true, &half)) return -1;
    if (half && bytes > 1) bytes /= 2;
    if (const char* path = path_of(file)) {
        struct stat status {};
        fstat(file, &status);
        note_write(path, std::strstr(path, ".writing-") ? 0 : status.st_size);
    }
    return real<ssize_t(int, const void*, size_t)>("write")(file, data, bytes);
}

int fallocate(int file, int mode, off_t offset, off_t length) {
    if (strikes("fallocate", path_of(file), true)) return -1;
    return real<int(int, int, off_t, off_t)>("fallocate")(file, mode, offset, length);
}

int fsync(int file) {
    if (strikes("fsync", path_of(file), false)) return -1;
    if (const char* path = path_of(file)) forget(path);
    return real<int(int)>("fsync")(file);
}

int close(int file) {
    const bool failed = strikes("close", path_of(file), false);
    const int code = errno;
    remember(file, nullptr);
    // The descriptor is gone even when close() reports an error.
    const int result = real<int(int)>("close")(file);
    if (!failed) return result;
    errno = code;
    return -1;
}

int rename(const char* from, const char* to) {
    if (strikes("rename", to, false)) return -1;
    if (inside(to)) note_rename(from, to);
    return real<int(const char*, const char*)>("rename")(from, to);
}

int mkdir(const char* path, mode_t mode) {
    if (strikes("mkdir", path, true)) return -1;
    return real<int(const char*, mode_t)>("mkdir")(path, mode);
}

int unlink(const char* path) {
    if (strikes("unlink", path, false)) return -1;
    if (inside(path)) forget(path);
    return real<int(const char*)>("unlink")(path);
}

int unlinkat(int folder, const char* path, int flags) {
    char whole[1024];
    const char* at = joined(folder, path, whole, sizeof whole);
    if (strikes("unlinkat", at, false)) return -1;
    if (inside(at)) forget(at);
    return real<int(int, const char*, int)>("unlinkat")(folder, path, flags);
}

int truncate(const char* path, off_t length) {
    if (strikes("truncate", path, false)) return -1;
    return real<int(const char*, off_t)>("truncate")(path, length);
}

}  // extern "C"
