// NIfTI-1 and -2, one file (.nii, .nii.gz), either byte order. Own code: what a header promises is checked against what
// the file can hold before memory is asked for, and volumes are read one at a time. A file that breaks a promise is an
// Error(data) with its name. Field numbers and rules: nifti1.h and nifti2.h of the NIfTI standard.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/geometry.h"

namespace cover {

// The standard's datatype codes. rgb24 is written, for colour overlays, and not read.
enum class NiftiType : std::int16_t {
    uint8 = 2,
    int16 = 4,
    int32 = 8,
    float32 = 16,
    float64 = 64,
    rgb24 = 128,
    int8 = 256,
    uint16 = 512,
    uint32 = 768,
    int64 = 1024,
    uint64 = 1280,
};

const char* name_of(NiftiType type);
std::int64_t size_of(NiftiType type);

struct NiftiHeader {
    int version = 1;
    bool big_endian = false;
    NiftiType type = NiftiType::float32;
    std::array<std::int64_t, 3> shape{1, 1, 1};  // nx, ny, nz; the file's first axis varies fastest
    std::int64_t volumes = 1;                    // product of the axes behind these
    std::int64_t data_offset = 352;
    double slope = 1, intercept = 0;  // value = stored * slope + intercept
    Affine affine;                    // (i, j, k) -> world mm, RAS+: sform, else qform, else pixdim alone

    // As stored, for writing a file that lies where this one does.
    int units = 2;  // xyzt_units
    int qform_code = 0, sform_code = 0;
    std::array<double, 8> pixdim{1, 1, 1, 1, 1, 1, 1, 1};
    std::array<double, 6> quaternion{};  // b, c, d, offsets x, y, z
    std::array<double, 12> srow{};
    std::string description;

    std::int64_t voxels() const { return shape[0] * shape[1] * shape[2]; }  // of one volume
    // The extremes that the stored type can express, in the units of the values; {0, 1} for floats.
    std::array<double, 2> type_range() const;
};

inline constexpr std::int64_t nifti_max_voxels = std::int64_t{1} << 30;  // of one volume
inline constexpr std::size_t nifti_max_header_bytes = 540;

// bytes: the first 540 bytes of the uncompressed file, or as many as there are. Says nothing about the data behind.
NiftiHeader parse_nifti_header(std::string_view bytes, const std::string& name);

// A header for a grid that came from no NIfTI file; affine: (i, j, k) -> world mm.
NiftiHeader make_nifti_header(const std::array<std::int64_t, 3>& shape, const Affine& affine);

// Reads a file from front to end, volume by volume; gzip is recognised by its first bytes. Holds one volume and a
// buffer of 1 MiB.
class NiftiReader {
public:
    // Throws Error(data) when it is missing, damaged, of a type that is not read, or too short for its header.
    static NiftiReader open(const std::string& path);
    // The bytes of a file that is in memory; they must outlive the reader. name stands in the sentences.
    static NiftiReader from_bytes(std::string_view bytes, const std::string& name);
    NiftiReader(NiftiReader&&) noexcept;
    NiftiReader& operator=(NiftiReader&&) noexcept;
    ~NiftiReader();

    const NiftiHeader& header() const;
    // The next volume, voxel (i, j, k) at (k * ny + j) * nx + i: stored * slope + intercept in double, rounded to
    // float. Call it header().volumes times. The last one also checks the sum at the end of a gzip stream.
    std::vector<float> next();

private:
    struct State;
    explicit NiftiReader(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Writes a file in the place and with the orientation of `like` (its shape, affine, units and codes; not its type,
// slope or number of volumes). values: volumes * like.voxels() elements of `type` (three bytes each for rgb24), the
// first axis fastest, volume after volume. vector_valued: the volumes are components of a vector per voxel (fifth axis,
// as registration programs write displacements), else a fourth axis. Compressed when the name ends in .gz; the same
// contents are the same bytes. NIfTI-1 unless `like` is NIfTI-2 or a side exceeds 32767. Throws Error(io).
struct NiftiOutput {
    NiftiType type = NiftiType::float32;  // uint8, int16, float32 or rgb24
    std::int64_t volumes = 1;
    bool vector_valued = false;
    std::string description{};  // at most 79 bytes
};
void write_nifti(const std::string& path, const NiftiHeader& like, const NiftiOutput& output, const void* values);

// (nx, ny, nz), first axis fastest, as a reader hands it out -> (D, H, W) in the given order, last axis fastest.
template <class T>
std::vector<T> to_stored_order(const std::vector<T>& in, const std::array<std::int64_t, 3>& shape,
                               const AxisOrder& order) {
    const std::int64_t step[3] = {1, shape[0], shape[0] * shape[1]};
    std::int64_t side[3], stride[3], start = 0;
    for (std::size_t a = 0; a < 3; ++a) {
        const auto from = static_cast<std::size_t>(order.from[a]);
        side[a] = shape[from];
        stride[a] = order.reversed[a] ? -step[from] : step[from];
        if (order.reversed[a]) start += (side[a] - 1) * step[from];
    }
    std::vector<T> out;
    out.reserve(in.size());
    for (std::int64_t d = 0; d < side[0]; ++d)
        for (std::int64_t h = 0; h < side[1]; ++h)
            for (std::int64_t w = 0; w < side[2]; ++w)
                out.push_back(in[static_cast<std::size_t>(start + d * stride[0] + h * stride[1] + w * stride[2])]);
    return out;
}

}  // namespace cover
