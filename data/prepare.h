// `cover prepare`: pictures, volumes, folders of them and other people's HDF5 files into one patch file.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/shape.h"
#include "data/h5_write.h"

namespace cover {

// How stored values become [0, 1]; what lies outside is cut off.
enum class Normalisation : std::uint8_t {
    automatic,   // range for 8 and 16 bits, else minmax (HDF5 floats that lie in [0, 1] throughout are kept)
    range,       // the type's full range
    minmax,      // the image's own extremes
    percentile,  // its 0.5 and 99.5 percentiles
    zscore,      // mean +- 3 standard deviations
    ct,          // the window, in stored units
};

// "range", "minmax", ...; throws Error(usage) with the names there are.
Normalisation parse_normalisation(const std::string& name);
// "uint8", "uint16", "float16", "float32".
H5Store parse_store(const std::string& name);
// "576" or "96x96x96"; throws Error(usage).
std::vector<std::int64_t> parse_sides(const std::string& text);

struct PrepareOptions {
    std::vector<std::string> inputs;  // files and folders
    std::string out;
    // One number for a square or cube, or one per axis, slowest first. Empty: 576 x 576 for pictures (the paper's),
    // the stored size for HDF5.
    std::vector<std::int64_t> size;
    std::vector<double> spacing;  // 3D: mm per stored voxel, resampled to; empty: as it is
    bool keep_aspect = false;     // 2D: pad with zeros instead of stretching
    Normalisation normalise = Normalisation::automatic;
    std::optional<std::array<double, 2>> window;  // of ct; -1000 to 1000 for volumes where it is not given
    std::optional<H5Store> store;                 // uint8 in 2D, uint16 in 3D
    int channels_in = 1;                          // 1: luminance; 3: red, green, blue
    std::string labels;                           // folder with a label file of the same stem for every image
    std::string split;                            // rows of index.csv to take
    bool strict = false;                          // throw at the first bad input
    std::function<void(std::int64_t done, std::int64_t total)> progress;  // in input files
};

struct BadInput {
    std::string path;
    std::string sentence;  // whole, with the path
};

struct PrepareResult {
    std::int64_t written = 0;  // samples
    std::vector<BadInput> bad;
    std::vector<std::string> notes;  // samples whose NaN or infinite values became the minimum
    Grid grid;
    int channels = 1;
    H5Store store = H5Store::uint8;
};

// Throws Error(data) when nothing could be used, Error(usage) for options that do not fit, Error(io) when the file
// cannot be written; then there is no file.
PrepareResult prepare(const PrepareOptions& options);

}  // namespace cover
