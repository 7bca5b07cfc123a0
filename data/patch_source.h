// One HDF5 file of a PatchFile: which data sets hold its images and labels, and how their bytes become samples.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/shape.h"
#include "data/geometry.h"
#include "data/h5.h"
#include "data/patches.h"

namespace cover {

// Where each axis of a sample stands in the stored shape; -1 when it does not.
struct Axes {
    int d = -1, h = -1, w = -1, c = -1;
    int rank = 0;

    bool channels_last() const { return c == rank - 1 && c > 0; }
};

// Samples of one kind: the rows of one data set, or one data set each.
struct SampleRows {
    std::vector<const H5Dataset*> datasets;
    bool rows = true;
    struct Stream;
    std::shared_ptr<Stream> stream;  // for a data set that is cut through its samples: in ascending order only

    const H5Dataset& dataset(std::int64_t sample) const {
        return *datasets[rows ? 0 : static_cast<std::size_t>(sample)];
    }
    // The stored bytes of a sample.
    void read(const H5File& file, std::int64_t sample, std::vector<unsigned char>& bytes) const;
};

struct PatchSource {
    std::string path;
    H5File file;
    SampleRows images;
    Axes axes;
    std::int64_t samples = 0;
    Grid grid;
    int channels = 1;
    std::vector<double> spacing;
    bool scaled = false;  // the file names scale or offset
    double scale = 1, offset = 0;
    std::vector<std::string> subjects, sources;  // empty where the file names none

    SampleRows labels;
    LabelKind label_kind = LabelKind::none;
    std::string label_refusal;  // why the labels that there are cannot be used; images can all the same
    bool has_geometry = false;

    // Throws Error(data).
    PatchSource(const std::string& path, const PatchAccess& access);

    std::int64_t count() const { return grid.pixels() * channels; }
    // The entry of subjects or sources, "FILE.h5:i" where there are none.
    std::string name_of(std::int64_t sample, const std::vector<std::string>& names) const;
    // (D, H, W) class numbers, or one of them.
    void read_labels(std::int64_t sample, std::uint8_t* out) const;
    SampleGeometry geometry(std::int64_t sample) const;

private:
    std::string find_images(const PatchAccess& access);
    void find_axes(const std::string& owner);
    void find_values(const std::string& owner, const PatchAccess& access);
    void find_names();
    void find_labels(const PatchAccess& access);
    // Empty, or why a data set cannot be read sample by sample.
    std::string open_rows(SampleRows& rows, const PatchAccess& access) const;
};

}  // namespace cover
