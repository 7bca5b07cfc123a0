// NumPy's .npy, version 1.0: an array of float32 in C order. Format: numpy.lib.format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cover {

// "\x93NUMPY", version, header, padded with spaces so that the data begin at a multiple of 64.
std::string npy_header(const std::vector<std::int64_t>& shape);

// values: the product of the shape, last axis fastest. Written aside, flushed and renamed. Throws Error(io).
void write_npy(const std::string& path, const std::vector<std::int64_t>& shape, const std::vector<float>& values);

}  // namespace cover
