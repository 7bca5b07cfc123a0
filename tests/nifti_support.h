// NIfTI files made byte by byte, without the program's own writer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/nifti.h"

namespace cover::test {

struct MadeNifti {
    int version = 1;
    bool big_endian = false;
    bool single_file = true;  // false: the mark of a .hdr and .img pair
    NiftiType type = NiftiType::float32;
    std::optional<int> datatype;        // what the header says instead
    std::array<std::int64_t, 8> dim{};  // number of axes first
    std::array<double, 4> pixdim{1, 1, 1, 1};
    double slope = 0, intercept = 0;
    int units = 2, qform_code = 0, sform_code = 0;
    std::array<double, 6> quaternion{};
    std::array<double, 12> srow{};
    std::int64_t data_offset = 0;         // where the voxels are; 0: right behind the header
    std::optional<double> stated_offset;  // what the header says instead
    std::vector<double> values;           // as stored
};

std::string nifti_bytes(const MadeNifti& made);
std::string gzipped(const std::string& bytes);

}  // namespace cover::test
