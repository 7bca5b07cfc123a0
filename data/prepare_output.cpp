#include "data/prepare_output.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/check.h"
#include "data/quantise.h"

namespace cover {

namespace {

// Bytes that wait, next to the output, until their number is known. The file has no name.
class Spool {
public:
    explicit Spool(const std::string& beside) : path_(beside) {
        std::string name = beside + ".spool-XXXXXX";
        file_ = mkostemp(name.data(), O_CLOEXEC);
        require(file_ >= 0, ErrorKind::io, "[prepare] ", beside, ": cannot be written: ", strerror(errno));
        unlink(name.c_str());
    }
    ~Spool() { close(file_); }
    Spool(const Spool&) = delete;
    Spool& operator=(const Spool&) = delete;

    void write(const std::vector<unsigned char>& bytes) {
        for (std::size_t done = 0; done < bytes.size();) {
            const ssize_t n = ::write(file_, bytes.data() + done, bytes.size() - done);
            if (n < 0 && errno == EINTR) continue;
            require(n > 0, ErrorKind::io, "[prepare] ", path_, ": cannot be written: ", strerror(errno));
            done += static_cast<std::size_t>(n);
        }
    }
    void read(std::int64_t offset, std::vector<unsigned char>& bytes) const {
        for (std::size_t done = 0; done < bytes.size();) {
            const ssize_t n =
                pread(file_, bytes.data() + done, bytes.size() - done, offset + static_cast<std::int64_t>(done));
            if (n < 0 && errno == EINTR) continue;
            require(n > 0, ErrorKind::io, "[prepare] ", path_, ": what was written aside cannot be read back");
            done += static_cast<std::size_t>(n);
        }
    }

private:
    std::string path_;
    int file_ = -1;
};

void copy(H5Writer& writer, const std::string& path, H5Store store, const std::vector<std::int64_t>& shape,
          const Spool& spool) {
    std::int64_t row = size_of(store);
    for (std::size_t axis = 1; axis < shape.size(); ++axis) row *= shape[axis];
    std::vector<unsigned char> bytes(static_cast<std::size_t>(row));
    writer.create(path, store, shape);
    for (std::int64_t i = 0; i < shape[0]; ++i) {
        spool.read(i * row, bytes);
        writer.write_rows(path, i, 1, bytes.data());
    }
}

std::string describe(const Grid& grid, int channels) {
    return grid.spatial_dims == 3 ? text(channels, " x ", grid.d, " x ", grid.h, " x ", grid.w)
                                  : text(channels, " x ", grid.h, " x ", grid.w);
}

// (D, H, W, C) -> (C, D, H, W)
std::vector<float> channels_first(const Sample& s) {
    std::vector<float> out(s.values.size());
    const auto pixels = static_cast<std::size_t>(s.grid.pixels());
    const auto channels = static_cast<std::size_t>(s.channels);
    for (std::size_t p = 0; p < pixels; ++p)
        for (std::size_t c = 0; c < channels; ++c) out[c * pixels + p] = s.values[p * channels + c];
    return out;
}

LabelKind kind_of(const Sample& s) {
    return !s.labels.empty() ? LabelKind::maps : s.class_label ? LabelKind::classes : LabelKind::none;
}

}  // namespace

struct PrepareOutput::State {
    std::string path;
    Spool images, labels;
    std::int64_t count = 0;
    Grid grid;
    int channels = 1;
    H5Store store = H5Store::uint8;
    LabelKind label_kind = LabelKind::none;
    std::vector<double> spacing, least_spacing, most_spacing;
    std::vector<std::string> subjects, sources;
    std::vector<double> affine, source_affine;
    std::vector<std::int64_t> source_shape;

    explicit State(const std::string& p) : path(p), images(p), labels(p) {}

    void begin(const Sample& s, std::optional<H5Store> wanted) {
        grid = s.grid;
        channels = s.channels;
        store = wanted.value_or(s.grid.spatial_dims == 3 ? H5Store::uint16 : H5Store::uint8);
        label_kind = kind_of(s);
        spacing = s.spacing.empty() ? std::vector<double>(2, 1.0) : s.spacing;
        least_spacing = most_spacing = spacing;
    }
};

PrepareOutput::PrepareOutput(const std::string& path) : state_(std::make_unique<State>(path)) {}
PrepareOutput::~PrepareOutput() = default;

void PrepareOutput::add(const Sample& s, std::optional<H5Store> store) {
    State& out = *state_;
    if (out.count == 0) out.begin(s, store);
    require(s.grid == out.grid && s.channels == out.channels, ErrorKind::data, "[prepare] ", s.where, ": ",
            describe(s.grid, s.channels), " where the first image gave ", describe(out.grid, out.channels),
            "; give --size, and do not mix 2D and 3D");
    require(kind_of(s) == out.label_kind, ErrorKind::data, "[prepare] ", s.where,
            ": has other labels than the first image, or none; prepare images with and without labels apart");
    out.images.write(quantise(s.channels == 1 ? s.values : channels_first(s), out.store));
    out.labels.write(s.class_label ? std::vector<unsigned char>{*s.class_label} : s.labels);
    out.subjects.push_back(s.subject);
    out.sources.push_back(s.source);
    const SampleGeometry geometry = s.geometry();
    out.affine.insert(out.affine.end(), geometry.affine.m.begin(), geometry.affine.m.end());
    out.source_affine.insert(out.source_affine.end(), geometry.source_affine.m.begin(), geometry.source_affine.m.end());
    out.source_shape.insert(out.source_shape.end(), geometry.source_shape.begin(), geometry.source_shape.end());
    for (std::size_t axis = 0; axis < s.spacing.size(); ++axis) {
        out.least_spacing[axis] = std::min(out.least_spacing[axis], s.spacing[axis]);
        out.most_spacing[axis] = std::max(out.most_spacing[axis], s.spacing[axis]);
    }
    ++out.count;
}

std::int64_t PrepareOutput::count() const { return state_->count; }
Grid PrepareOutput::grid() const { return state_->grid; }
int PrepareOutput::channels() const { return state_->channels; }
H5Store PrepareOutput::store() const { return state_->store; }

double PrepareOutput::spacing_ratio() const {
    double out = 1;
    for (std::size_t axis = 0; axis < state_->spacing.size(); ++axis)
        out = std::max(out, state_->most_spacing[axis] / state_->least_spacing[axis]);
    return out;
}

void PrepareOutput::write(const std::string& preprocessing) {
    const State& out = *state_;
    const std::int64_t n = out.count;
    std::vector<std::int64_t> spatial = {out.grid.h, out.grid.w};
    if (out.grid.spatial_dims == 3) spatial.insert(spatial.begin(), out.grid.d);
    std::vector<std::int64_t> shape = {n, out.channels};
    shape.insert(shape.end(), spatial.begin(), spatial.end());
    H5Writer writer(out.path);
    copy(writer, "/images", out.store, shape, out.images);
    writer.attribute("/images", "axes", std::string(out.grid.spatial_dims == 3 ? "NCDHW" : "NCHW"));
    writer.attribute("/images", "spacing", out.spacing);
    if (out.label_kind != LabelKind::none) {
        std::vector<std::int64_t> label_shape = {n};
        if (out.label_kind == LabelKind::maps) label_shape.insert(label_shape.end(), spatial.begin(), spatial.end());
        copy(writer, "/labels", H5Store::uint8, label_shape, out.labels);
    }
    writer.strings("/subject", out.subjects);
    writer.strings("/source", out.sources);
    writer.doubles("/geometry/affine", {n, 4, 4}, out.affine.data());
    writer.doubles("/geometry/source_affine", {n, 4, 4}, out.source_affine.data());
    writer.dataset("/geometry/source_shape", H5Store::int64, {n, 3}, out.source_shape.data());
    writer.attribute("/", "cover_schema", std::int64_t{1});
    writer.attribute("/", "preprocessing", preprocessing);
    writer.commit();
}

}  // namespace cover
