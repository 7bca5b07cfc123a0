#include "tests/data_support.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

namespace cover::test {

void add_dataset(hid_t file, const ForeignDataset& d) {
    const int rank = static_cast<int>(d.shape.size());
    const hid_t space = H5Screate_simple(rank, d.shape.data(), nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    if (!d.chunk.empty()) REQUIRE(H5Pset_chunk(creation, rank, d.chunk.data()) >= 0);
    if (d.shuffle) REQUIRE(H5Pset_shuffle(creation) >= 0);
    if (d.deflate) REQUIRE(H5Pset_deflate(creation, 4) >= 0);
    if (d.fletcher32) REQUIRE(H5Pset_fletcher32(creation) >= 0);
    const hid_t dataset = H5Dcreate2(file, d.path.c_str(), d.file_type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    REQUIRE(dataset >= 0);
    if (d.data) REQUIRE(H5Dwrite(dataset, d.memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, d.data) >= 0);
    if (!d.axes.empty()) {
        const hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        const hid_t scalar = H5Screate(H5S_SCALAR);
        const hid_t attribute = H5Acreate2(dataset, "axes", type, scalar, H5P_DEFAULT, H5P_DEFAULT);
        const char* text = d.axes.c_str();
        REQUIRE(H5Awrite(attribute, type, &text) >= 0);
        H5Aclose(attribute);
        H5Sclose(scalar);
        H5Tclose(type);
    }
    H5Dclose(dataset);
    H5Pclose(creation);
    H5Sclose(space);
}

void write_foreign(const std::string& path, const ForeignFile& f) {
    H5dont_atexit();
    const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (f.user_block) REQUIRE(H5Pset_userblock(creation, f.user_block) >= 0);
    if (f.latest) REQUIRE(H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) >= 0);
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
    REQUIRE(file >= 0);
    for (const ForeignDataset& d : f.datasets) add_dataset(file, d);
    REQUIRE(H5Fclose(file) >= 0);
    H5Pclose(creation);
    H5Pclose(access);
}

std::string bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace cover::test
