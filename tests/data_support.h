// HDF5 files of every kind for the tests of data/, made with the library itself: what a stranger's program writes.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cover::test {

struct ForeignDataset {
    std::string path = "/images";
    std::vector<hsize_t> shape;
    hid_t file_type = -1;    // as stored; such as H5T_IEEE_F32LE
    hid_t memory_type = -1;  // of data
    const void* data = nullptr;
    std::vector<hsize_t> chunk;  // empty: contiguous
    bool shuffle = false, deflate = false, fletcher32 = false;
    std::string axes;  // attribute, when not empty
};

struct ForeignFile {
    hsize_t user_block = 0;
    bool latest = false;  // newest file format of the library
    std::vector<ForeignDataset> datasets;
};

// Each step is checked with doctest.
void write_foreign(const std::string& path, const ForeignFile& file);
void add_dataset(hid_t file, const ForeignDataset& dataset);

std::string bytes_of(const std::string& path);
void write_bytes(const std::string& path, const std::string& bytes);
// The sentence of the Error(data) that body() throws; empty when it throws none.
template <class Body>
std::string data_error(Body body);

}  // namespace cover::test

#include "core/check.h"

template <class Body>
std::string cover::test::data_error(Body body) {
    try {
        body();
    } catch (const cover::Error& error) {
        return error.kind() == cover::ErrorKind::data ? error.what() : std::string("another kind: ") + error.what();
    }
    return {};
}
