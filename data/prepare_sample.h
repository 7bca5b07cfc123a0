// One image between its file and the patch file: read in stored units, normalised, brought to size, with every step's
// effect on its geometry kept.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/shape.h"
#include "data/geometry.h"
#include "data/nifti.h"
#include "data/patches.h"
#include "data/prepare.h"

namespace cover {

struct Sample {
    std::vector<float> values;  // (D, H, W, C)
    Grid grid;
    int channels = 1;
    std::array<double, 2> type_range{0, 255};
    bool in_range = false;             // 8 or 16 bits without a sign, or floats between 0 and 1: `range` keeps them
    std::vector<double> spacing;       // mm per index step (D, H, W) of a volume; empty in 2D where nothing is known
    std::vector<std::uint8_t> labels;  // (D, H, W); empty without
    std::optional<std::uint8_t> class_label;

    Affine to_source;      // index (d, h, w) -> index of the source
    Affine source_affine;  // index of the source -> world mm
    std::array<std::int64_t, 3> source_shape{1, 1, 1};

    std::string subject, source;
    std::string where;  // for sentences

    SampleGeometry geometry() const { return {source_affine * to_source, source_affine, source_shape}; }
};

// A PNG or JPEG; channels 1 (luminance) or 3. Throws Error(data).
Sample read_picture_sample(const std::string& path, int channels);

// The volumes of a NIfTI file, one after the other, their axes reordered to right, anterior, superior.
class VolumeInput {
public:
    // Throws Error(data).
    explicit VolumeInput(const std::string& path);

    const NiftiHeader& header() const { return reader_.header(); }
    std::int64_t volumes() const { return reader_.header().volumes; }
    // Call it volumes() times.
    Sample next();

private:
    std::string path_;
    NiftiReader reader_;
    AxisOrder order_;
    std::int64_t done_ = 0;
};

// Sample i of a patch file opened in stored units, with its labels and geometry where the file has them.
Sample read_stored_sample(const PatchFile& file, std::int64_t i, LabelKind labels);

// A label picture or label volume. It must lie where the sample lies: the same size, and for a volume the same affine
// to a tenth of a voxel. A picture that holds 0 and 255 alone is a mask of class 1.
void attach_label_picture(Sample& sample, const std::string& path);
void attach_label_volume(Sample& sample, const Sample& labels, const std::string& path);

// To size, as the options say. Throws Error(usage) for options that do not fit the number of dimensions. picture: the
// paper's size where the options give none.
void fit(Sample& sample, const PrepareOptions& options, bool picture);

}  // namespace cover
