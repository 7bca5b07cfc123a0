// Writes HDF5 files: contiguous data sets, no time stamps, one version of the format. The same contents are the same
// bytes. The file appears under its name when it is whole. One thread at a time: the library has no lock.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cover {

enum class H5Store : std::uint8_t { uint8, uint16, int16, int32, int64, float16, float32, float64 };

const char* name_of(H5Store type);
std::int64_t size_of(H5Store type);

class H5Writer {
public:
    // Throws Error(io) here and below: disk full, no permission.
    explicit H5Writer(const std::string& path);
    // Removes what was written unless commit() was called.
    ~H5Writer();
    H5Writer(const H5Writer&) = delete;
    H5Writer& operator=(const H5Writer&) = delete;

    // Parents of a group or data set are created with it.
    void group(const std::string& path);
    // data: product of shape elements of that type in row-major order, little-endian.
    void dataset(const std::string& path, H5Store type, const std::vector<std::int64_t>& shape, const void* data);
    void floats(const std::string& path, const std::vector<std::int64_t>& shape, const float* data);
    void doubles(const std::string& path, const std::vector<std::int64_t>& shape, const double* data);
    // One-dimensional, of fixed length (that of the longest), UTF-8, padded with zeros.
    void strings(const std::string& path, const std::vector<std::string>& values);
    // A data set that is filled row by row: rows [first, first + count) of its first axis.
    void create(const std::string& path, H5Store type, const std::vector<std::int64_t>& shape);
    void write_rows(const std::string& path, std::int64_t first, std::int64_t count, const void* data);

    // Attributes of "/", a group or a data set that exists by now.
    void attribute(const std::string& object, const std::string& name, double value);
    void attribute(const std::string& object, const std::string& name, std::int64_t value);
    void attribute(const std::string& object, const std::string& name, const std::string& value);
    void attribute(const std::string& object, const std::string& name, const std::vector<double>& values);

    void commit();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cover
