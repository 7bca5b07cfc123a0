#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/check.h"
#include "data/h5.h"
#include "data/h5_facts.h"
#include "data/h5_filter.h"
#include "data/h5_process.h"

namespace cover {

struct H5File::State {
    std::string path;
    int file = -1;
    std::int64_t size = 0;
    H5Facts facts;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (file >= 0) close(file);
    }

    std::string where(const H5Dataset& dataset) const { return path + ": dataset " + dataset.path; }

    void read_at(std::int64_t offset, unsigned char* out, std::int64_t bytes) const {
        while (bytes > 0) {
            const ssize_t got = pread(file, out, static_cast<std::size_t>(bytes), offset);
            if (got < 0 && errno == EINTR) continue;
            require(got >= 0, ErrorKind::io, "[hdf5] reading ", path, ": ", strerror(errno));
            require(got > 0, ErrorKind::data, "[hdf5] ", path, ": the file has become shorter while it was read");
            offset += got;
            out += got;
            bytes -= got;
        }
    }

    std::vector<unsigned char> read_chunk(const H5Dataset& dataset, const H5Chunk& chunk) const {
        std::int64_t chunk_bytes = dataset.type.size;
        for (const std::int64_t side : dataset.chunk_side) chunk_bytes *= side;
        std::vector<unsigned char> stored(static_cast<std::size_t>(chunk.size));
        read_at(chunk.offset, stored.data(), chunk.size);
        return undo_filters(std::move(stored), dataset, chunk.filter_mask, chunk_bytes, where(dataset));
    }
};

std::string H5Type::name() const {
    const std::string bits = std::to_string(8 * size);
    switch (kind) {
    case H5Kind::integer: return (is_signed ? "int" : "uint") + bits;
    case H5Kind::floating: return "float" + bits;
    case H5Kind::string: return "string";
    case H5Kind::other: break;
    }
    return "other";
}

std::int64_t H5Dataset::count() const {
    std::int64_t out = 1;
    for (const std::int64_t side : shape)
        if (side == 0) return 0;
    for (const std::int64_t side : shape) out *= side;
    return out;
}

std::int64_t H5Dataset::row_count() const {
    std::int64_t out = 1;
    for (std::size_t axis = 1; axis < shape.size(); ++axis)
        if (shape[axis] == 0) return 0;
    for (std::size_t axis = 1; axis < shape.size(); ++axis) out *= shape[axis];
    return out;
}

bool H5Dataset::row_is_one_read() const {
    if (!unreadable.empty() || shape.empty() || !type.numeric()) return false;
    if (layout != H5Layout::chunked) return true;
    if (too_many_chunks || chunk_side[0] != 1) return false;
    for (std::size_t axis = 1; axis < shape.size(); ++axis)
        if (chunk_side[axis] != shape[axis]) return false;
    return true;
}

namespace {

std::shared_ptr<H5File::State> open_bytes(const std::string& path) {
    auto state = std::make_shared<H5File::State>();
    state->path = path;
    state->file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    require(state->file >= 0, ErrorKind::data, "[hdf5] cannot open ", path, ": ", strerror(errno));
    struct stat facts {};
    require(fstat(state->file, &facts) == 0 && S_ISREG(facts.st_mode), ErrorKind::data, "[hdf5] ", path,
            " is not a file");
    state->size = facts.st_size;
    require(state->size > 0, ErrorKind::data, "[hdf5] ", path, ": the file is empty; copy or make it again");
    return state;
}

}  // namespace

H5File H5File::open(const std::string& path) {
    auto state = open_bytes(path);
    H5Child child(state->file, "facts", "", path);
    state->facts = parse_h5_facts(child.answer(), path, state->size);
    return H5File(std::move(state));
}

H5File open_h5_with_answer(const std::string& path, const std::string& answer) {
    auto state = open_bytes(path);
    state->facts = parse_h5_facts(answer, path, state->size);
    return H5File(std::move(state));
}

const std::string& H5File::path() const { return state_->path; }
const std::map<std::string, H5Dataset>& H5File::datasets() const { return state_->facts.datasets; }
const std::map<std::string, H5Attributes>& H5File::groups() const { return state_->facts.groups; }

const H5Dataset* H5File::find(const std::string& dataset) const {
    const auto found = datasets().find(dataset);
    return found == datasets().end() ? nullptr : &found->second;
}

const H5Dataset& H5File::dataset(const std::string& dataset) const {
    const auto link = state_->facts.links.find(dataset);
    if (link != state_->facts.links.end())
        fail(ErrorKind::data, text("[hdf5] ", path(), ": ", dataset, " is a ", link->second,
                                   ", which is not followed; write the data into the file itself"));
    const H5Dataset* found = find(dataset);
    require(found, ErrorKind::data, "[hdf5] ", path(), ": there is no dataset ", dataset);
    require(found->unreadable.empty(), ErrorKind::data, "[hdf5] ", path(), ": dataset ", dataset, " ",
            found->unreadable);
    return *found;
}

const H5Attribute* H5File::find_attribute(const std::string& object, const std::string& name) const {
    const H5Attributes* attributes = nullptr;
    if (const H5Dataset* d = find(object)) attributes = &d->attributes;
    if (const auto group = groups().find(object); group != groups().end()) attributes = &group->second;
    if (!attributes) return nullptr;
    const auto found = attributes->find(name);
    return found == attributes->end() ? nullptr : &found->second;
}

std::vector<double> H5File::numbers(const std::string& object, const std::string& name) const {
    const H5Attribute* attribute = find_attribute(object, name);
    require(attribute && !attribute->numbers.empty(), ErrorKind::data, "[hdf5] ", path(), ": ", object,
            " has no numeric attribute '", name, "'");
    return attribute->numbers;
}

double H5File::number(const std::string& object, const std::string& name) const {
    const std::vector<double> all = numbers(object, name);
    require(all.size() == 1, ErrorKind::data, "[hdf5] ", path(), ": attribute '", name, "' of ", object, " holds ",
            all.size(), " numbers instead of one");
    return all[0];
}

std::string H5File::string(const std::string& object, const std::string& name) const {
    const H5Attribute* attribute = find_attribute(object, name);
    require(attribute && attribute->strings.size() == 1, ErrorKind::data, "[hdf5] ", path(), ": ", object,
            " has no attribute '", name, "' that is a string");
    return attribute->strings[0];
}

void H5File::check_held(const H5Dataset& d, std::int64_t bytes) const {
    require(d.unreadable.empty(), ErrorKind::data, "[hdf5] ", state_->where(d), " ", d.unreadable);
    const bool written = d.layout == H5Layout::compact || (d.layout == H5Layout::contiguous && d.offset >= 0) ||
                         (d.layout == H5Layout::chunked && d.stored > 0);
    require(written, ErrorKind::data, "[hdf5] ", state_->where(d), " was never written; make the file again");
    // Deflate cannot do better than 1032 to 1.
    require(d.layout != H5Layout::chunked || bytes / 1040 <= d.stored + 4096, ErrorKind::data, "[hdf5] ",
            state_->where(d), " promises samples of ", bytes, " bytes and stores ", d.stored,
            " in all; the file is damaged");
}

std::vector<unsigned char> H5File::read_bytes(const H5Dataset& d) const {
    require(d.unreadable.empty(), ErrorKind::data, "[hdf5] ", state_->where(d), " ", d.unreadable);
    require(d.strings.empty(), ErrorKind::internal, "[hdf5] ", state_->where(d), " has strings of variable length");
    const std::int64_t bytes = d.count() * d.type.size;
    if (bytes == 0) return {};
    if (d.layout == H5Layout::compact) return d.bytes;
    std::vector<unsigned char> out;
    if (d.layout == H5Layout::contiguous) {
        require(d.offset >= 0, ErrorKind::data, "[hdf5] ", state_->where(d), " was never written");
        out.resize(static_cast<std::size_t>(bytes));
        state_->read_at(d.offset, out.data(), bytes);
        return out;
    }
    require(!d.too_many_chunks, ErrorKind::data, "[hdf5] ", state_->where(d), " is cut into more than ", max_chunks,
            " chunks; repack the file: cover prepare ", path(), " --out REPACKED.h5");
    std::int64_t expected = 1, stored = 0;
    for (std::size_t axis = 0; axis < d.shape.size(); ++axis)
        expected *= (d.shape[axis] + d.chunk_side[axis] - 1) / d.chunk_side[axis];
    for (const H5Chunk& chunk : d.chunks) stored += chunk.size;
    require(static_cast<std::int64_t>(d.chunks.size()) == expected, ErrorKind::data, "[hdf5] ", state_->where(d),
            " has ", d.chunks.size(), " of its ", expected, " chunks; the others were never written");
    require(bytes / 1040 <= stored + 64 * expected, ErrorKind::data, "[hdf5] ", state_->where(d), " promises ", bytes,
            " bytes but stores ", stored, "; the file is damaged");
    out.resize(static_cast<std::size_t>(bytes));
    const std::size_t rank = d.shape.size();
    for (const H5Chunk& chunk : d.chunks) {
        const std::vector<unsigned char> data = state_->read_chunk(d, chunk);
        std::vector<std::int64_t> inside(rank, 0), side(rank);
        for (std::size_t axis = 0; axis < rank; ++axis)
            side[axis] = std::min(d.chunk_side[axis], d.shape[axis] - chunk.at[axis]);
        // Runs along the last axis.
        const std::int64_t run = side[rank - 1] * d.type.size;
        for (bool more = true; more;) {
            std::int64_t from = 0, to = 0;
            for (std::size_t axis = 0; axis < rank; ++axis) {
                from = from * d.chunk_side[axis] + inside[axis];
                to = to * d.shape[axis] + chunk.at[axis] + inside[axis];
            }
            memcpy(out.data() + to * d.type.size, data.data() + from * d.type.size, static_cast<std::size_t>(run));
            more = false;
            for (std::size_t axis = rank - 1; axis-- > 0;) {
                if (++inside[axis] < side[axis]) {
                    more = true;
                    break;
                }
                inside[axis] = 0;
            }
        }
    }
    return out;
}

void H5File::read_row(const H5Dataset& d, std::int64_t row, unsigned char* out) const {
    require(d.row_is_one_read() && row >= 0 && row < d.shape[0], ErrorKind::internal, "[hdf5] ", state_->where(d),
            ": row ", row, " cannot be read on its own");
    const std::int64_t bytes = d.row_count() * d.type.size;
    if (d.layout == H5Layout::compact) {
        memcpy(out, d.bytes.data() + row * bytes, static_cast<std::size_t>(bytes));
    } else if (d.layout == H5Layout::contiguous) {
        require(d.offset >= 0, ErrorKind::data, "[hdf5] ", state_->where(d), " was never written");
        state_->read_at(d.offset + row * bytes, out, bytes);
    } else {
        const auto chunk = std::lower_bound(d.chunks.begin(), d.chunks.end(), row,
                                            [](const H5Chunk& c, std::int64_t r) { return c.at[0] < r; });
        require(chunk != d.chunks.end() && chunk->at[0] == row, ErrorKind::data, "[hdf5] ", state_->where(d),
                ": the chunk of sample ", row, " was never written");
        const std::vector<unsigned char> data = state_->read_chunk(d, *chunk);
        memcpy(out, data.data(), data.size());
    }
}

std::vector<double> H5File::read_doubles(const H5Dataset& d) const {
    require(d.type.numeric() || !d.unreadable.empty(), ErrorKind::data, "[hdf5] ", state_->where(d),
            " holds no numbers");
    const std::vector<unsigned char> bytes = read_bytes(d);
    std::vector<double> out(static_cast<std::size_t>(d.count()));
    to_doubles(d.type, bytes.data(), d.count(), out.data());
    return out;
}

std::vector<float> H5File::read_floats(const H5Dataset& d) const {
    require(d.type.numeric() || !d.unreadable.empty(), ErrorKind::data, "[hdf5] ", state_->where(d),
            " holds no numbers");
    const std::vector<unsigned char> bytes = read_bytes(d);
    std::vector<float> out(static_cast<std::size_t>(d.count()));
    to_floats(d.type, bytes.data(), d.count(), 1, 0, out.data());
    return out;
}

std::vector<std::string> H5File::read_strings(const H5Dataset& d) const {
    require(d.unreadable.empty() && d.type.kind == H5Kind::string, ErrorKind::data, "[hdf5] ", state_->where(d),
            " holds no strings");
    if (d.type.size == 0) return d.strings;
    const std::vector<unsigned char> bytes = read_bytes(d);
    std::vector<std::string> out;
    const auto size = static_cast<std::size_t>(d.type.size);
    for (std::size_t begin = 0; begin + size <= bytes.size(); begin += size) {
        std::size_t length = strnlen(reinterpret_cast<const char*>(bytes.data() + begin), size);
        while (length > 0 && bytes[begin + length - 1] == ' ') --length;
        out.emplace_back(reinterpret_cast<const char*>(bytes.data() + begin), length);
    }
    return out;
}

struct H5Stream::State {
    H5File file;
    const H5Dataset& dataset;
    H5Child child;
    std::int64_t left = 0;  // bytes of the frame

    State(const H5File& f, const H5Dataset& d, int descriptor)
        : file(f), dataset(d), child(descriptor, "stream", d.path, f.path()) {}
};

H5Stream::H5Stream(const H5File& file, const H5Dataset& dataset)
    : state_(std::make_unique<State>(file, dataset, file.state_->file)) {}

H5Stream::~H5Stream() = default;

void H5Stream::next(unsigned char* out) {
    std::int64_t wanted = state_->dataset.row_count() * state_->dataset.type.size;
    while (wanted > 0) {
        if (state_->left == 0) {
            std::int64_t mark = 0;
            state_->child.read(reinterpret_cast<unsigned char*>(&mark), sizeof mark);
            if (mark <= 0) {
                std::string sentence(static_cast<std::size_t>(std::min<std::int64_t>(-mark, 4096)), ' ');
                state_->child.read(reinterpret_cast<unsigned char*>(sentence.data()),
                                   static_cast<std::int64_t>(sentence.size()));
                fail(ErrorKind::data,
                     text("[hdf5] ", state_->file.path(), ": dataset ", state_->dataset.path, ": ", sentence));
            }
            state_->left = mark;
        }
        const std::int64_t part = std::min(wanted, state_->left);
        state_->child.read(out, part);
        out += part;
        wanted -= part;
        state_->left -= part;
    }
}

}  // namespace cover
