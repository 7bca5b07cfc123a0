#include "data/prepare_sample.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "data/image.h"
#include "data/resample.h"

namespace cover {

namespace {

constexpr std::int64_t default_picture_side = 576;  // of the paper

Grid grid_of(int dims, const std::vector<std::int64_t>& size) {
    Grid grid{dims, 1, size[0], size[0]};
    if (dims == 3) grid.d = size[0];
    if (size.size() > 1) {
        grid.h = size[size.size() - 2];
        grid.w = size.back();
    }
    return grid;
}

void resize(Sample& s, const Grid& to, const AxisSteps& steps) {
    Point scale, shift;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        scale[axis] = steps[axis].ratio;
        shift[axis] = steps[axis].shift();
        const int spatial = static_cast<int>(axis) - (3 - to.spatial_dims);
        if (spatial >= 0 && !s.spacing.empty()) s.spacing[static_cast<std::size_t>(spatial)] *= scale[axis];
    }
    s.to_source = s.to_source * Affine::scale_shift(scale, shift);
    if (!s.labels.empty()) s.labels = resample_nearest(s.labels, s.grid, to, steps);
    s.values = resample(std::move(s.values), s.grid, to, steps, s.channels);
    // A weighted mean of values in [0, 1] may leave it by a rounding.
    for (float& v : s.values) v = std::clamp(v, 0.0f, 1.0f);
    s.grid = to;
}

// Cuts or pads around the centre.
void centre(Sample& s, const Grid& to) {
    if (s.grid == to) return;
    const Grid at{to.spatial_dims, (to.d - s.grid.d) / 2, (to.h - s.grid.h) / 2, (to.w - s.grid.w) / 2};
    if (!s.labels.empty()) s.labels = place(s.labels, s.grid, to, at, 1);
    s.values = place(s.values, s.grid, to, at, s.channels);
    s.to_source = s.to_source * Affine::scale_shift({1, 1, 1}, {-static_cast<double>(at.d), -static_cast<double>(at.h),
                                                                -static_cast<double>(at.w)});
    s.grid = to;
}

void fit_picture(Sample& s, const PrepareOptions& options, bool picture) {
    require(options.spacing.empty(), ErrorKind::usage, "[prepare] --spacing is for volumes, but ", s.where,
            " is a picture; give its size in pixels: --size");
    std::vector<std::int64_t> size = options.size;
    if (size.empty() && picture) size = {default_picture_side};
    if (size.empty()) return;
    require(size.size() <= 2, ErrorKind::usage, "[prepare] --size has three sides, but ", s.where, " is a picture");
    const Grid target = grid_of(2, size);
    Grid inner = target;
    if (options.keep_aspect) {
        const double ratio = std::min(static_cast<double>(target.h) / static_cast<double>(s.grid.h),
                                      static_cast<double>(target.w) / static_cast<double>(s.grid.w));
        inner.h = std::clamp<std::int64_t>(std::lround(static_cast<double>(s.grid.h) * ratio), 1, target.h);
        inner.w = std::clamp<std::int64_t>(std::lround(static_cast<double>(s.grid.w) * ratio), 1, target.w);
    }
    resize(s, inner, stretch(s.grid, inner));
    centre(s, target);
}

void fit_volume(Sample& s, const PrepareOptions& options) {
    require(!options.keep_aspect, ErrorKind::usage, "[prepare] --keep-aspect is for pictures, but ", s.where,
            " is a volume; volumes are never stretched");
    if (!options.spacing.empty()) {
        std::vector<double> wanted = options.spacing;
        if (wanted.size() == 1) wanted.assign(3, wanted[0]);
        require(wanted.size() == 3, ErrorKind::usage, "[prepare] --spacing needs one or three numbers");
        std::int64_t sides[3] = {s.grid.d, s.grid.h, s.grid.w};
        AxisSteps steps;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const double ratio = wanted[axis] / s.spacing[axis];
            const double to = std::max(1.0, std::round(static_cast<double>(sides[axis]) / ratio));
            require(to <= 65536, ErrorKind::data, "[prepare] ", s.where, ": at ", wanted[axis], " mm it would have ",
                    to, " voxels along an axis; choose a wider --spacing");
            steps[axis] = AxisStep::centred(sides[axis], static_cast<std::int64_t>(to), ratio);
            sides[axis] = static_cast<std::int64_t>(to);
        }
        const Grid to{3, sides[0], sides[1], sides[2]};
        require(to.pixels() <= nifti_max_voxels, ErrorKind::data, "[prepare] ", s.where,
                ": at this --spacing it would have ", to.pixels(), " voxels; at most 2^30 are written");
        resize(s, to, steps);
    }
    if (!options.size.empty()) {
        require(options.size.size() != 2, ErrorKind::usage, "[prepare] --size has two sides, but ", s.where,
                " is a volume");
        centre(s, grid_of(3, options.size));
    }
}

std::vector<std::uint8_t> as_classes(const std::vector<float>& values, const std::string& path) {
    std::vector<std::uint8_t> out;
    out.reserve(values.size());
    for (const float v : values) {
        require(v >= 0 && v <= 255 && v == std::floor(v), ErrorKind::data, "[prepare] ", path, ": label ",
                static_cast<double>(v), "; classes are numbered 0 to 255");
        out.push_back(static_cast<std::uint8_t>(v));
    }
    return out;
}

}  // namespace

Sample read_picture_sample(const std::string& path, int channels) {
    Image image = read_image(path, channels);
    Sample s;
    s.values = std::move(image.pixels);
    s.grid = {2, 1, image.height, image.width};
    s.channels = image.channels;
    s.type_range = {0.0, static_cast<double>(image.maximum)};
    s.in_range = true;
    s.source_shape = {1, image.height, image.width};
    s.where = path;
    return s;
}

VolumeInput::VolumeInput(const std::string& path)
    : path_(path), reader_(NiftiReader::open(path)), order_(closest_ras(reader_.header().affine)) {}

Sample VolumeInput::next() {
    const NiftiHeader& h = reader_.header();
    Sample s;
    s.values = to_stored_order(reader_.next(), h.shape, order_);
    const auto side = [&](std::size_t axis) { return h.shape[static_cast<std::size_t>(order_.from[axis])]; };
    s.grid = {3, side(0), side(1), side(2)};
    s.type_range = h.type_range();
    s.to_source = index_map(order_, h.shape);
    s.source_affine = h.affine;
    s.source_shape = h.shape;
    const Point spacing = (h.affine * s.to_source).spacing();
    s.spacing.assign(spacing.begin(), spacing.end());
    s.where = volumes() > 1 ? text(path_, ": volume ", done_) : path_;
    ++done_;
    return s;
}

Sample read_stored_sample(const PatchFile& file, std::int64_t i, LabelKind labels) {
    Sample s;
    s.grid = file.grid();
    s.channels = file.channels();
    s.values.resize(static_cast<std::size_t>(s.grid.pixels() * s.channels));
    file.read_sample(i, s.values.data());
    if (labels == LabelKind::classes) s.class_label = file.class_label(i);
    if (labels == LabelKind::maps) {
        s.labels.resize(static_cast<std::size_t>(s.grid.pixels()));
        file.read_labels(i, s.labels.data());
    }
    s.type_range = file.type_range(i);
    s.spacing = file.spacing();
    s.subject = file.subject(i);
    s.source = file.source(i);
    s.where = file.where(i);
    if (file.has_geometry()) {
        const SampleGeometry geometry = file.geometry(i);
        s.to_source = stored_to_source(geometry, s.where);
        s.source_affine = geometry.source_affine;
        s.source_shape = geometry.source_shape;
        if (s.grid.spatial_dims == 3) {
            const Point spacing = geometry.affine.spacing();
            s.spacing.assign(spacing.begin(), spacing.end());
        }
    } else {
        s.source_shape = {s.grid.d, s.grid.h, s.grid.w};
        if (s.grid.spatial_dims == 3)
            s.source_affine = Affine::scale_shift({s.spacing[0], s.spacing[1], s.spacing[2]}, {0, 0, 0});
    }
    return s;
}

void attach_label_picture(Sample& sample, const std::string& path) {
    require(sample.grid.spatial_dims == 2, ErrorKind::data, "[prepare] ", path,
            ": is a picture and cannot label the volume ", sample.where);
    const Image image = read_label_image(path);
    require(image.height == sample.grid.h && image.width == sample.grid.w, ErrorKind::data, "[prepare] ", path,
            ": a label of ", image.height, " x ", image.width, " for an image of ", sample.grid.h, " x ",
            sample.grid.w);
    sample.labels = as_classes(image.pixels, path);
    // Masks are often kept as 0 and 255: that is class 1.
    const auto is_mask = [](std::uint8_t v) { return v == 0 || v == 255; };
    if (std::all_of(sample.labels.begin(), sample.labels.end(), is_mask))
        for (std::uint8_t& v : sample.labels) v = v > 0 ? 1 : 0;
}

void attach_label_volume(Sample& sample, const Sample& labels, const std::string& path) {
    const Grid &a = sample.grid, &b = labels.grid;
    require(a.spatial_dims == 3, ErrorKind::data, "[prepare] ", path, ": is a volume and cannot label the picture ",
            sample.where);
    require(a == b, ErrorKind::data, "[prepare] ", path, ": a label volume of ", b.d, " x ", b.h, " x ", b.w,
            " for one of ", a.d, " x ", a.h, " x ", a.w, " (right, anterior, superior)");
    const Affine ours = sample.source_affine * sample.to_source, theirs = labels.source_affine * labels.to_source;
    const Affine between = *inverse(ours) * theirs;
    for (const double d : {0.0, static_cast<double>(a.d - 1)})
        for (const double h : {0.0, static_cast<double>(a.h - 1)})
            for (const double w : {0.0, static_cast<double>(a.w - 1)}) {
                const Point p = between({d, h, w});
                const double off = std::max({std::abs(p[0] - d), std::abs(p[1] - h), std::abs(p[2] - w)});
                require(off <= 0.1, ErrorKind::data, "[prepare] ", path, ": its affine places it up to ", off,
                        " voxels beside the volume that it labels; give both the same affine");
            }
    sample.labels = as_classes(labels.values, path);
}

void fit(Sample& sample, const PrepareOptions& options, bool picture) {
    sample.grid.spatial_dims == 3 ? fit_volume(sample, options) : fit_picture(sample, options, picture);
}

}  // namespace cover
