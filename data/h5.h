// Reads HDF5 files that nobody vouches for. The HDF5 library sees a file only in a short-lived child process (the same
// program, started again), which answers with plain facts: type, shape, attributes and where the bytes lie. This
// process checks the facts against the file's size and reads the bytes itself, from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cover {

// First line of every main() whose program reads HDF5: does the child's work when this process was started as that
// child, and returns its exit code; -1 otherwise.
int run_child_if_asked(int argc, char** argv);

enum class H5Kind : std::uint8_t { integer, floating, string, other };

struct H5Type {
    H5Kind kind = H5Kind::other;
    std::int64_t size = 0;  // bytes of an element; 0 for a string of variable length
    bool is_signed = false;
    bool big_endian = false;

    bool numeric() const { return kind == H5Kind::integer || kind == H5Kind::floating; }
    // "uint8", "int16", "float32", "string", "other"
    std::string name() const;
    friend bool operator==(const H5Type&, const H5Type&) = default;
};

struct H5Attribute {
    std::vector<std::int64_t> shape;   // empty for a scalar
    std::vector<double> numbers;       // of integers, floats, enumerations and booleans
    std::vector<std::string> strings;  // of fixed or variable length
};
using H5Attributes = std::map<std::string, H5Attribute>;

enum class H5Filter : std::uint8_t { deflate, shuffle, fletcher32 };

struct H5Chunk {
    std::int64_t offset = 0;  // in the file, user block included
    std::int64_t size = 0;    // stored bytes
    std::uint32_t filter_mask = 0;
    std::vector<std::int64_t> at;  // first element, in elements
};

enum class H5Layout : std::uint8_t { compact, contiguous, chunked };

struct H5Dataset {
    std::string path;  // "/images"
    H5Type type;
    std::vector<std::int64_t> shape;
    H5Attributes attributes;
    // Why its elements cannot be read, as the end of a sentence ("is kept in another file"); empty when they can.
    std::string unreadable;

    H5Layout layout = H5Layout::contiguous;
    std::int64_t offset = -1;              // contiguous: of the first element; -1 when nothing was ever written
    std::vector<unsigned char> bytes;      // compact
    std::vector<std::int64_t> chunk_side;  // chunked
    std::vector<H5Filter> filters;         // in the order of writing
    std::int64_t shuffle_size = 0;         // bytes of an element as the shuffle filter sees it
    std::vector<H5Chunk> chunks;           // in row-major order of `at`; empty when there are more than max_chunks
    bool too_many_chunks = false;
    std::int64_t stored = 0;           // chunked: bytes of all chunks in the file
    std::vector<std::string> strings;  // elements of a dataset of variable-length strings

    std::int64_t count() const;      // elements
    std::int64_t row_count() const;  // elements behind one index of the first axis
    // Chunked so that each chunk holds exactly one index of the first axis, or contiguous: a row is one read.
    bool row_is_one_read() const;
};

class H5File {
public:
    static constexpr std::int64_t max_chunks = 20000;

    // Throws Error(data) when the file is missing, damaged or refused, Error(io) when no child process can be started.
    static H5File open(const std::string& path);

    const std::string& path() const;
    // Null when there is none.
    const H5Dataset* find(const std::string& dataset) const;
    // Throws Error(data) when there is none or it is unreadable.
    const H5Dataset& dataset(const std::string& dataset) const;
    // By path, groups with "/" for the root. A link to another file or a soft link is in neither list.
    const std::map<std::string, H5Dataset>& datasets() const;
    const std::map<std::string, H5Attributes>& groups() const;
    bool has_group(const std::string& group) const { return groups().count(group) > 0; }

    // Attribute of a group or dataset; these throw Error(data) naming file, object and attribute.
    const H5Attribute* find_attribute(const std::string& object, const std::string& name) const;
    double number(const std::string& object, const std::string& name) const;
    std::vector<double> numbers(const std::string& object, const std::string& name) const;
    std::string string(const std::string& object, const std::string& name) const;

    // A shape is only a promise. Throws Error(data) when `dataset` was never written, or when its chunks cannot hold
    // `bytes` bytes: before memory is asked for them.
    void check_held(const H5Dataset& dataset, std::int64_t bytes) const;

    // All elements in row-major order. Throws Error(data) for a type, size or checksum that does not fit.
    std::vector<double> read_doubles(const H5Dataset& dataset) const;
    std::vector<float> read_floats(const H5Dataset& dataset) const;
    std::vector<double> read_doubles(const std::string& path) const { return read_doubles(dataset(path)); }
    std::vector<float> read_floats(const std::string& path) const { return read_floats(dataset(path)); }
    // Of fixed or variable length; padding removed.
    std::vector<std::string> read_strings(const H5Dataset& dataset) const;
    // Stored bytes, filters undone, byte order as stored.
    std::vector<unsigned char> read_bytes(const H5Dataset& dataset) const;
    // The bytes of one row (index of the first axis) of a dataset whose row is one read; of the whole dataset where
    // whole = true and it lies in one piece. out holds row_count() * type.size bytes. Safe to call from many threads.
    void read_row(const H5Dataset& dataset, std::int64_t row, unsigned char* out) const;

    struct State;

private:
    explicit H5File(std::shared_ptr<const State> state) : state_(std::move(state)) {}
    std::shared_ptr<const State> state_;
    friend class H5Stream;
    friend H5File open_h5_with_answer(const std::string& path, const std::string& answer);
};

// Rows of a numeric dataset of any chunk shape, one after the other, read by the library in a child of its own.
class H5Stream {
public:
    H5Stream(const H5File& file, const H5Dataset& dataset);
    ~H5Stream();
    H5Stream(const H5Stream&) = delete;
    H5Stream& operator=(const H5Stream&) = delete;

    // The next row's stored bytes: row_count() * type.size of them. Throws Error(data) when the child died, the file
    // is damaged or a chunk was never written.
    void next(unsigned char* out);

private:
    struct State;
    std::unique_ptr<State> state_;
};

// Elements to numbers: count elements of the given stored type. float16, float32, float64 and integers of 1 to 8 bytes.
void to_doubles(const H5Type& type, const unsigned char* bytes, std::int64_t count, double* out);
// out[i] = float(stored * scale + offset), computed in double.
void to_floats(const H5Type& type, const unsigned char* bytes, std::int64_t count, double scale, double offset,
               float* out);

}  // namespace cover
