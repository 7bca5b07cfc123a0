// A patch file (HDF5, schema 1: /images with axes, spacing, scale, offset; /subject; /source): images of one size,
// samples first. Several files are read as one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/shape.h"
#include "data/geometry.h"
#include "data/h5.h"

namespace cover {

struct PatchAccess {
    // Any chunk shape, samples in order and each once, by one thread: for `prepare`. Otherwise samples in any order
    // from many threads, and a file cut through its samples is refused with the command that repacks it.
    bool sequential = false;
    // Values by the attributes scale and offset alone: unsigned integers are not divided by their maximum.
    bool stored_units = false;
    // NaN and infinite values are handed out instead of thrown.
    bool allow_non_finite = false;
};

enum class LabelKind : std::uint8_t {
    none,
    classes,  // one number per sample
    maps,     // one per pixel
};

class PatchFile {
public:
    // Throws Error(data) with file and reason: no /images, axes that are not known, files of different sizes.
    static PatchFile open(const std::vector<std::string>& paths, const PatchAccess& access = {});

    std::int64_t sample_count() const;
    int spatial_dims() const;
    Grid grid() const;  // of one sample; d = 1 in 2D
    int channels() const;
    std::vector<double> spacing() const;  // per spatial axis, slowest first; 1 where the file says nothing
    H5Type type(std::int64_t sample) const;
    // What its stored type can express, in the units of read_sample(): the extremes of an integer, {0, 1} for floats.
    std::array<double, 2> type_range(std::int64_t sample) const;

    // Sample i as (D, H, W, C), channels last: stored * scale + offset, where the file names one of them, else unsigned
    // integers divided by their maximum. Throws Error(data) naming file and sample for a non-finite value and for a
    // chunk that was never written.
    void read_sample(std::int64_t sample, float* out) const;

    // /labels, integers 0 to 255. Throws Error(data) where there are some that do not fit the images, and where only
    // some of the files have them.
    LabelKind label_kind() const;
    std::uint8_t class_label(std::int64_t sample) const;
    // (D, H, W). Both: Error(data) for a number that is no class. With PatchAccess::sequential in ascending order.
    void read_labels(std::int64_t sample, std::uint8_t* out) const;

    // Every file says where its samples lie (/geometry).
    bool has_geometry() const;
    // Throws Error(data) without it and for matrices without an inverse.
    SampleGeometry geometry(std::int64_t sample) const;

    // Cut through its samples and therefore read in order, as PatchAccess::sequential allows; what breaks off stays so.
    bool streamed() const;

    // From /subject and /source; without them "FILE:i" of the file's name, so that every sample is its own subject.
    std::string subject(std::int64_t sample) const;
    std::string source(std::int64_t sample) const;
    // "FILE.h5: sample 3", i counted within its file.
    std::string where(std::int64_t sample) const;
    // The root attribute of the first file, JSON; "" when there is none.
    const std::string& preprocessing() const;
    // SHA-256 over type, shape, scale, offset and the stored bytes of every image, in order; where these are more than
    // 256 MiB, of as many whole images, evenly spread, and of the last.
    std::string content_hash() const;

private:
    struct State;
    explicit PatchFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}
    std::shared_ptr<const State> state_;
};

}  // namespace cover
