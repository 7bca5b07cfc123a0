// The child process: the only place where the HDF5 library reads a file. It may die here. One line of JSON per object
// goes to standard output; the parent (h5_facts.cpp) believes none of it unchecked.
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/h5.h"
#include "data/h5_describe.h"
#include "data/h5_process.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COVER_SANITIZED 1
#else
#define COVER_SANITIZED 0
#endif

namespace cover {

namespace {

using nlohmann::json;
using namespace child;

constexpr std::int64_t block_bytes = std::int64_t{64} << 20;

void write_all(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t done = write(1, p, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) _exit(1);  // the parent has gone
        p += done;
        bytes -= static_cast<std::size_t>(done);
    }
}

void say(const json& line) {
    const std::string s = line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    write_all(s.data(), s.size());
}

// Behind the limit, the hard one: seconds of processor time between the signal and the end.
void limit(int resource, rlim_t value, rlim_t grace = 0) {
    rlimit limits{value, value + grace};
    setrlimit(static_cast<__rlimit_resource>(resource), &limits);
}

void lower_limits() {
    signal(SIGPIPE, SIG_DFL);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    if (!COVER_SANITIZED) limit(RLIMIT_AS, rlim_t{512} << 20);
}

hid_t open_file() {
    // Standard input is the file that the parent has opened: both see the same one, whatever happens to its name.
    const hid_t file = H5Fopen("/proc/self/fd/0", H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) throw Refusal{"it is not an HDF5 file, or a damaged one"};
    // No further file can be opened from here on: neither an external link, external storage nor a virtual source.
    if (!COVER_SANITIZED) limit(RLIMIT_NOFILE, 4);
    return file;
}

void tell_facts() {
    limit(RLIMIT_CPU, h5_time_limit_seconds, 2);
    alarm(h5_patience_seconds + 5);  // should the parent be gone
    const hid_t file = open_file();
    const Id creation(H5Fget_create_plist(file), H5Pclose);
    hsize_t user_block = 0;
    check(H5Pget_userblock(creation, &user_block) >= 0);
    describe_file(file, say);
    say({{"end", true}, {"user_block", user_block}});
}

void send_frame(const void* data, std::int64_t bytes) {
    write_all(&bytes, sizeof bytes);
    write_all(data, static_cast<std::size_t>(bytes));
}

// Whether every chunk that the block [start, start + count) touches was written.
bool all_written(hid_t dataset, const std::vector<std::int64_t>& side, const std::vector<hsize_t>& start,
                 const std::vector<hsize_t>& count) {
    std::vector<hsize_t> at(side.size());
    for (std::size_t axis = 0; axis < side.size(); ++axis)
        at[axis] = start[axis] / static_cast<hsize_t>(side[axis]) * static_cast<hsize_t>(side[axis]);
    const std::vector<hsize_t> first = at;
    for (;;) {
        hsize_t bytes = 0;
        if (H5Dget_chunk_storage_size(dataset, at.data(), &bytes) < 0 || bytes == 0) return false;
        std::size_t axis = side.size();
        while (axis > 0) {
            --axis;
            at[axis] += static_cast<hsize_t>(side[axis]);
            if (at[axis] < start[axis] + count[axis]) break;
            at[axis] = first[axis];
            if (axis == 0) return true;
        }
    }
}

// The elements in row-major order, in blocks of at most 64 MiB.
void stream(const std::string& path) {
    const hid_t file = open_file();
    const Id access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
    check(H5Pset_chunk_cache(access, 12421, std::size_t{96} << 20, 1.0) >= 0);
    const Id dataset(H5Dopen2(file, path.c_str(), access), H5Dclose);
    const json facts = describe_dataset(dataset, path);
    if (facts.contains("unreadable")) throw Refusal{facts["unreadable"].get<std::string>()};
    const Id type(H5Dget_type(dataset), H5Tclose);
    const Id space(H5Dget_space(dataset), H5Sclose);
    const std::vector<std::int64_t> shape = sides(space);
    const std::int64_t size = describe_type(type).size;
    if (shape.empty() || size == 0 || product(shape) <= 0) throw Refusal{"it holds no rows"};
    const std::vector<std::int64_t> chunk_side = facts.contains("chunk_side")
                                                     ? facts["chunk_side"].get<std::vector<std::int64_t>>()
                                                     : std::vector<std::int64_t>();

    // Blocks run over `axis`; axes before it step by one, those behind it are whole.
    std::size_t axis = 0;
    std::int64_t tail = size;
    for (std::size_t i = 1; i < shape.size(); ++i) tail *= shape[i];
    while (axis + 1 < shape.size() && tail > block_bytes) tail /= shape[++axis];
    std::int64_t step = std::max<std::int64_t>(1, block_bytes / tail);
    if (!chunk_side.empty() && step > chunk_side[axis]) step -= step % chunk_side[axis];
    step = std::min(step, shape[axis]);

    std::vector<unsigned char> block(static_cast<std::size_t>(step * tail));
    std::vector<hsize_t> start(shape.size(), 0), count(shape.begin(), shape.end());
    for (std::size_t i = 0; i < axis; ++i) count[i] = 1;
    for (;;) {
        count[axis] = std::min<hsize_t>(static_cast<hsize_t>(step), static_cast<hsize_t>(shape[axis]) - start[axis]);
        alarm(h5_patience_seconds);
        if (!chunk_side.empty() && !all_written(dataset, chunk_side, start, count))
            throw Refusal{"a chunk from sample " + std::to_string(start[0]) + " on was never written"};
        const Id memory(H5Screate_simple(static_cast<int>(shape.size()), count.data(), nullptr), H5Sclose);
        check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) >= 0);
        check(H5Dread(dataset, type, memory, space, H5P_DEFAULT, block.data()) >= 0);
        alarm(0);
        send_frame(block.data(), static_cast<std::int64_t>(count[axis]) * tail);
        std::size_t i = axis;
        start[i] += count[i];
        while (start[i] >= static_cast<hsize_t>(shape[i])) {
            start[i] = 0;
            if (i == 0) return;
            ++start[--i];
        }
    }
}

}  // namespace

int run_child_if_asked(int argc, char** argv) {
    h5_child_is_served();
    if (argc < 4 || std::strcmp(argv[1], h5_child_argument) != 0) return -1;
    lower_limits();
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);
    const std::string mode = argv[2];
    std::string sentence;
    try {
        if (mode == "facts")
            tell_facts();
        else
            stream(argv[3]);
        _exit(0);
    } catch (const Refusal& refusal) {
        sentence = refusal.sentence;
    } catch (const std::exception& error) {
        sentence = error.what();
    }
    if (mode == "facts") {
        say({{"error", sentence}});
    } else {
        const std::int64_t mark = -static_cast<std::int64_t>(sentence.size());
        write_all(&mark, sizeof mark);
        write_all(sentence.data(), sentence.size());
    }
    _exit(0);
}

}  // namespace cover
