#include "data/h5_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>

#include "core/check.h"

extern char** environ;

namespace cover {

namespace {

std::atomic<bool> child_served{false};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// This process's environment, with every setting of the HDF5 library replaced by ours: no plug-in is looked for, and a
// reader takes no lock.
std::vector<std::string> child_environment() {
    std::vector<std::string> out;
    for (char** entry = environ; *entry; ++entry)
        if (strncmp(*entry, "HDF5_", 5) != 0) out.emplace_back(*entry);
    out.emplace_back("HDF5_PLUGIN_PRELOAD=::");
    out.emplace_back("HDF5_USE_FILE_LOCKING=FALSE");
    return out;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> out;
    for (std::string& s : strings) out.push_back(s.data());
    out.push_back(nullptr);
    return out;
}

struct SpawnSettings {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    SpawnSettings() {
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
    }
    ~SpawnSettings() {
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }
    SpawnSettings(const SpawnSettings&) = delete;
    SpawnSettings& operator=(const SpawnSettings&) = delete;
};

std::atomic<std::int64_t> largest_child_bytes = 0;

// The child that has ended, or -1.
pid_t wait_for(pid_t child, int* status) {
    rusage used{};
    pid_t done;
    while ((done = wait4(child, status, 0, &used)) < 0 && errno == EINTR) {
    }
    std::int64_t before = largest_child_bytes;
    const std::int64_t bytes = 1024 * static_cast<std::int64_t>(used.ru_maxrss);
    while (bytes > before && !largest_child_bytes.compare_exchange_weak(before, bytes)) {
    }
    return done;
}

}  // namespace

void h5_child_is_served() { child_served = true; }

H5Child::H5Child(int file, const std::string& mode, const std::string& argument, std::string path)
    : path_(std::move(path)) {
    require(child_served, ErrorKind::internal,
            "[hdf5] this program's main() does not call run_child_if_asked() and so cannot read ", path_);
    int ends[2];
    require(pipe2(ends, O_CLOEXEC) == 0, ErrorKind::io, "[hdf5] no pipe for reading ", path_, ": ", strerror(errno));
    pipe_ = ends[0];

    SpawnSettings settings;
    posix_spawn_file_actions_adddup2(&settings.actions, file, 0);
    posix_spawn_file_actions_adddup2(&settings.actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&settings.actions, 2, "/dev/null", O_WRONLY, 0);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    // A process group of its own: an interrupt from the keyboard is for the parent to handle.
    posix_spawnattr_setflags(&settings.attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&settings.attributes, 0);
    posix_spawnattr_setsigmask(&settings.attributes, &none);
    posix_spawnattr_setsigdefault(&settings.attributes, &all);

    std::vector<std::string> arguments = {"cover", h5_child_argument, mode, argument};
    std::vector<std::string> environment = child_environment();
    const int error = posix_spawn(&pid_, "/proc/self/exe", &settings.actions, &settings.attributes,
                                  pointers(arguments).data(), pointers(environment).data());
    close(ends[1]);
    if (error != 0) {
        pid_ = -1;
        close(pipe_);
        pipe_ = -1;
        fail(ErrorKind::io, text("[hdf5] no child process for reading ", path_, ": ", strerror(error)));
    }
}

H5Child::~H5Child() { kill(); }

std::int64_t H5Child::take_largest_bytes() { return largest_child_bytes.exchange(0); }

void H5Child::kill() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        (void)wait_for(pid_, nullptr);
    }
    pid_ = -1;
    if (pipe_ >= 0) close(pipe_);
    pipe_ = -1;
}

void H5Child::fail_slow() const {
    fail(ErrorKind::data, text("[hdf5] ", path_, ": the HDF5 library took longer than ", h5_time_limit_seconds,
                               " seconds over it; the file is damaged or far too finely divided"));
}

std::int64_t H5Child::read_some(unsigned char* out, std::int64_t bytes, double deadline) {
    for (;;) {
        const double left = deadline - now();
        if (left <= 0) {
            kill();
            fail_slow();
        }
        pollfd waiting{pipe_, POLLIN, 0};
        if (poll(&waiting, 1, static_cast<int>(left * 1000) + 1) <= 0) continue;
        const ssize_t got = ::read(pipe_, out, static_cast<std::size_t>(bytes));
        if (got >= 0) return got;
        require(errno == EINTR, ErrorKind::io, "[hdf5] reading ", path_, " through a child: ", strerror(errno));
    }
}

void H5Child::finish() {
    require(pid_ > 0, ErrorKind::data, "[hdf5] ", path_, ": nothing more can be read from it");
    int status = 0;
    const pid_t done = wait_for(pid_, &status);
    pid_ = -1;
    if (done > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    if (done > 0 && WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGALRM)) fail_slow();
    if (done > 0 && WIFSIGNALED(status))
        fail(ErrorKind::data, text("[hdf5] ", path_, ": the HDF5 library died on this file (signal ", WTERMSIG(status),
                                   "); it is damaged, copy or make it again"));
    fail(ErrorKind::data,
         text("[hdf5] ", path_, ": the HDF5 library gave up on this file; it is damaged, copy or make it again"));
}

std::string H5Child::answer() {
    const double deadline = now() + h5_patience_seconds;
    std::string out;
    std::vector<unsigned char> piece(1 << 16);
    while (const std::int64_t got = read_some(piece.data(), static_cast<std::int64_t>(piece.size()), deadline)) {
        out.append(reinterpret_cast<const char*>(piece.data()), static_cast<std::size_t>(got));
        if (static_cast<std::int64_t>(out.size()) > h5_max_answer_bytes) {
            kill();
            fail(ErrorKind::data, text("[hdf5] ", path_, ": too many objects, attributes or strings to be read here"));
        }
    }
    finish();
    return out;
}

void H5Child::read(unsigned char* out, std::int64_t bytes) {
    const double deadline = now() + h5_patience_seconds;
    while (bytes > 0) {
        const std::int64_t got = read_some(out, bytes, deadline);
        if (got == 0) {
            finish();
            fail(ErrorKind::data, text("[hdf5] ", path_, ": the file ends early"));
        }
        out += got;
        bytes -= got;
    }
}

}  // namespace cover
