// The safetensors format: eight bytes of header length (little-endian), a JSON header, then the tensors' bytes.
// https://huggingface.co/docs/safetensors. A file that is read is not trusted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/tensor.h"

namespace cover {

struct NamedTensor {
    std::string name;
    Tensor tensor;
};

using Metadata = std::map<std::string, std::string>;

struct TensorFile {
    std::vector<NamedTensor> tensors;  // in the order of their bytes in the file
    Metadata metadata;

    // Null when there is none of that name.
    const Tensor* find(const std::string& name) const;
};

// One line of the header.
struct TensorEntry {
    std::string name;
    std::string dtype;  // "F32", "F64", "F16" or "BF16"
    Shape shape;
    std::uint64_t begin = 0, end = 0;  // bytes, counted from the end of the header
};

struct TensorHeader {
    std::vector<TensorEntry> entries;  // sorted by begin
    Metadata metadata;
    std::uint64_t data_at = 0;  // offset in the file of the first tensor byte
};

// Checks all that the format promises before anything is allocated: the header's length, its JSON, known types, sizes
// that match, byte ranges that cover the rest of the file without gap or overlap, no name twice. Throws Error(data)
// with file and tensor, Error(io) when the file cannot be read.
TensorHeader read_safetensors_header(const std::string& path);

// Types: F32, F64 and BF16 as they are, F16 widened to float32.
TensorFile read_safetensors(const std::string& path);

// Written aside, flushed and renamed. The bytes depend on the arguments alone: tensors in the order given, metadata
// sorted by key, header padded with spaces to a multiple of 8. Throws Error(internal) on a name used twice, Error(io)
// when writing fails.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors, const Metadata& metadata);
// The same bytes into a file that the caller closes; `path` is what messages name. Asks for the room first.
void write_safetensors(FileWriter& file, const std::string& path, const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata);
// How many bytes that file has.
std::uint64_t safetensors_bytes(const std::vector<NamedTensor>& tensors, const Metadata& metadata);

}  // namespace cover
