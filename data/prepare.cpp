#include "data/prepare.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "data/image.h"
#include "data/patches.h"
#include "data/prepare_inputs.h"
#include "data/quantise.h"
#include "data/resample.h"

namespace cover {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t default_picture_side = 576;  // of the paper

// One image on its way: first in stored units, (D, H, W, C).
struct Sample {
    std::vector<float> values;
    Grid grid;
    int channels = 1;
    std::array<double, 2> type_range{0, 255};
    bool in_range = true;  // 8 or 16 bits without a sign, or floats between 0 and 1: `range` keeps them
    std::vector<double> spacing;
    std::vector<std::uint8_t> labels;  // (D, H, W); empty without --labels
    std::string subject, source, where;
};

// From an index of the stored image to one of the source, per axis (D, H, W).
struct IndexMap {
    double scale[3] = {1, 1, 1}, shift[3] = {0, 0, 0};
};

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

Grid grid_of(int dims, const std::vector<std::int64_t>& size) {
    Grid grid{dims, 1, size[0], size[0]};
    if (dims == 3) grid.d = size[0];
    if (size.size() > 1) {
        grid.h = size[size.size() - 2];
        grid.w = size.back();
    }
    return grid;
}

class Preparation {
public:
    explicit Preparation(const PrepareOptions& options) : options_(options), images_(options.out) {
        if (!options.labels.empty()) labels_.emplace(options.out);
    }

    PrepareResult run() {
        std::vector<InputFile> inputs = find_inputs(options_, result_.bad);
        if (options_.strict && !result_.bad.empty()) refuse(result_.bad[0]);
        if (!options_.labels.empty()) find_labels();
        std::int64_t done = 0;
        for (const InputFile& input : inputs) {
            guarded(input.path, [&] { read(input); });
            if (options_.progress) options_.progress(++done, static_cast<std::int64_t>(inputs.size()));
        }
        if (result_.written == 0) {
            std::string why = result_.bad.empty() ? ": no picture or HDF5 file was found" : ":";
            for (std::size_t i = 0; i < result_.bad.size() && i < 20; ++i) why += "\n  " + result_.bad[i].sentence;
            if (result_.bad.size() > 20) why += text("\n  and ", result_.bad.size() - 20, " more");
            fail(ErrorKind::data, text("[prepare] nothing could be used, ", options_.out, " was not written", why));
        }
        write();
        return std::move(result_);
    }

private:
    [[noreturn]] static void refuse(const BadInput& bad) { fail(ErrorKind::data, bad.sentence); }

    // A bad input is named, counted and skipped; an error of the output ends the work.
    template <class Body>
    void guarded(const std::string& path, Body body) {
        try {
            body();
        } catch (const Error& error) {
            if (options_.strict || (error.kind() != ErrorKind::data && !(error.kind() == ErrorKind::io && reading_)))
                throw;
            result_.bad.push_back({path, error.what()});
        }
    }

    void find_labels() {
        std::error_code error;
        require(fs::is_directory(options_.labels, error), ErrorKind::data, "[prepare] ", options_.labels,
                ": --labels needs a folder");
        std::vector<std::string> paths;
        for (const auto& entry : fs::directory_iterator(options_.labels))
            if (kind_of(entry.path().string()) == InputKind::picture) paths.push_back(entry.path().string());
        std::sort(paths.begin(), paths.end());
        for (const std::string& path : paths) label_paths_.emplace(stem_of(path), path);
    }

    void read(const InputFile& input) {
        reading_ = true;
        switch (kind_of(input.path)) {
        case InputKind::picture: return read_picture(input);
        case InputKind::hdf5: return read_hdf5(input);
        case InputKind::volume:
            fail(ErrorKind::data, text("[prepare] ", input.path,
                                       ": volumes in NIfTI are not read by this version; convert it to HDF5 with a "
                                       "dataset /images of (N, 1, D, H, W)"));
        case InputKind::unknown: break;
        }
        fail(ErrorKind::data, text("[prepare] ", input.path, ": neither a PNG, a JPEG nor an HDF5 file"));
    }

    void read_picture(const InputFile& input) {
        const Image image = read_image(input.path, options_.channels_in);
        Sample s;
        s.values = image.pixels;
        s.grid = {2, 1, image.height, image.width};
        s.channels = image.channels;
        s.type_range = {0.0, static_cast<double>(image.maximum)};
        s.subject = input.subject;
        s.source = input.source;
        s.where = input.path;
        if (!options_.labels.empty()) {
            const auto found = label_paths_.find(stem_of(input.path));
            require(found != label_paths_.end(), ErrorKind::data, "[prepare] ", input.path, ": ", options_.labels,
                    " holds no label of that name");
            s.labels = read_labels(found->second, s.grid);
        }
        add(std::move(s), true);
    }

    static std::vector<std::uint8_t> read_labels(const std::string& path, const Grid& grid) {
        const Image image = read_label_image(path);
        require(image.height == grid.h && image.width == grid.w, ErrorKind::data, "[prepare] ", path, ": a label of ",
                image.height, " x ", image.width, " for an image of ", grid.h, " x ", grid.w);
        // Masks are often kept as 0 and 255: that is class 1.
        const bool mask =
            std::all_of(image.pixels.begin(), image.pixels.end(), [](float v) { return v == 0 || v == 255; });
        std::vector<std::uint8_t> out;
        for (const float v : image.pixels) {
            require(v <= 255, ErrorKind::data, "[prepare] ", path, ": label ", static_cast<int>(v),
                    "; classes are numbered 0 to 255");
            out.push_back(static_cast<std::uint8_t>(mask && v > 0 ? 1 : v));
        }
        return out;
    }

    void read_hdf5(const InputFile& input) {
        require(options_.labels.empty(), ErrorKind::data, "[prepare] ", input.path,
                ": --labels goes with pictures, not with an HDF5 file");
        const PatchAccess access{.sequential = true, .stored_units = true, .allow_non_finite = true};
        const PatchFile file = PatchFile::open({input.path}, access);
        const H5Type type = file.type(0);
        bool keep = type.kind == H5Kind::integer && !type.is_signed && type.size <= 2;
        if (type.kind == H5Kind::floating) keep = lies_in_unit_range(PatchFile::open({input.path}, access));
        for (std::int64_t i = 0; i < file.sample_count(); ++i) {
            const auto one = [&] { add(read_stored(file, i, keep), false); };
            // A stream that broke off has no next sample.
            file.streamed() ? one() : guarded(file.where(i), one);
        }
    }

    Sample read_stored(const PatchFile& file, std::int64_t i, bool keep) {
        reading_ = true;
        Sample s;
        s.grid = file.grid();
        s.channels = file.channels();
        s.values.resize(static_cast<std::size_t>(s.grid.pixels() * s.channels));
        file.read_sample(i, s.values.data());
        s.type_range = file.type_range(i);
        s.in_range = keep;
        s.spacing = file.spacing();
        s.subject = file.subject(i);
        s.source = file.source(i);
        s.where = file.where(i);
        return s;
    }

    static bool lies_in_unit_range(const PatchFile& file) {
        std::vector<float> values(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
        for (std::int64_t i = 0; i < file.sample_count(); ++i) {
            file.read_sample(i, values.data());
            for (const float v : values)
                if (std::isfinite(v) && (v < 0 || v > 1)) return false;
        }
        return true;
    }

    void add(Sample s, bool picture) {
        Normalisation method = options_.normalise;
        if (method == Normalisation::automatic) method = s.in_range ? Normalisation::range : Normalisation::minmax;
        const Normalised normalised = normalise(s.values, method, s.type_range, options_.window);
        require(normalised.refusal.empty(), ErrorKind::data, "[prepare] ", s.where, ": ", normalised.refusal);
        const Grid source = s.grid;
        const IndexMap map = s.grid.spatial_dims == 3 ? fit_volume(s) : fit_picture(s, picture);
        if (result_.written == 0) {
            result_.grid = s.grid;
            result_.channels = s.channels;
            result_.store = options_.store.value_or(s.grid.spatial_dims == 3 ? H5Store::uint16 : H5Store::uint8);
            spacing_ = s.spacing.empty() ? std::vector<double>(2, 1.0) : s.spacing;
            method_ = method;
        }
        require(s.grid == result_.grid && s.channels == result_.channels, ErrorKind::data, "[prepare] ", s.where, ": ",
                describe(s.grid, s.channels), " where the first image gave ", describe(result_.grid, result_.channels),
                "; give --size, and do not mix 2D and 3D");
        if (normalised.non_finite > 0)
            result_.notes.push_back(text(s.where, ": ", normalised.non_finite,
                                         " values were NaN or infinite and became the image's minimum"));
        reading_ = false;
        images_.write(quantise(channels_first(s), result_.store));
        if (labels_) labels_->write({s.labels.begin(), s.labels.end()});
        subjects_.push_back(s.subject);
        sources_.push_back(s.source);
        remember_geometry(s, source, map);
        ++result_.written;
    }

    static std::string describe(const Grid& grid, int channels) {
        return grid.spatial_dims == 3 ? text(channels, " x ", grid.d, " x ", grid.h, " x ", grid.w)
                                      : text(channels, " x ", grid.h, " x ", grid.w);
    }

    // (D, H, W, C) -> (C, D, H, W)
    static std::vector<float> channels_first(const Sample& s) {
        if (s.channels == 1) return s.values;
        std::vector<float> out(s.values.size());
        const auto pixels = static_cast<std::size_t>(s.grid.pixels());
        const auto channels = static_cast<std::size_t>(s.channels);
        for (std::size_t p = 0; p < pixels; ++p)
            for (std::size_t c = 0; c < channels; ++c) out[c * pixels + p] = s.values[p * channels + c];
        return out;
    }

    void resize(Sample& s, const Grid& to, IndexMap& map) const {
        const std::int64_t from_sides[3] = {s.grid.d, s.grid.h, s.grid.w}, to_sides[3] = {to.d, to.h, to.w};
        for (int axis = 0; axis < 3; ++axis) {
            // Pixel centres: source + 0.5 = (target + 0.5) * ratio.
            map.scale[axis] = static_cast<double>(from_sides[axis]) / static_cast<double>(to_sides[axis]);
            map.shift[axis] = 0.5 * map.scale[axis] - 0.5;
            const int spatial = axis - (3 - to.spatial_dims);
            if (spatial >= 0 && !s.spacing.empty()) s.spacing[static_cast<std::size_t>(spatial)] *= map.scale[axis];
        }
        if (!s.labels.empty()) s.labels = resample_nearest(s.labels, s.grid, to);
        s.values = resample(std::move(s.values), s.grid, to, s.channels);
        // A weighted mean of values in [0, 1] may leave it by a rounding.
        for (float& v : s.values) v = std::clamp(v, 0.0f, 1.0f);
        s.grid = to;
    }

    // Cuts or pads around the centre.
    static void centre(Sample& s, const Grid& to, IndexMap& map) {
        const Grid at{to.spatial_dims, (to.d - s.grid.d) / 2, (to.h - s.grid.h) / 2, (to.w - s.grid.w) / 2};
        if (!s.labels.empty()) s.labels = place(s.labels, s.grid, to, at, 1);
        s.values = place(s.values, s.grid, to, at, s.channels);
        const std::int64_t shift[3] = {at.d, at.h, at.w};
        for (int axis = 0; axis < 3; ++axis) map.shift[axis] -= static_cast<double>(shift[axis]) * map.scale[axis];
        s.grid = to;
    }

    IndexMap fit_picture(Sample& s, bool picture) const {
        IndexMap map;
        std::vector<std::int64_t> size = options_.size;
        if (size.empty() && picture) size = {default_picture_side};
        if (size.empty()) return map;
        require(size.size() <= 2, ErrorKind::usage, "[prepare] --size has three sides, but ", s.where, " is a picture");
        const Grid target = grid_of(2, size);
        Grid inner = target;
        if (options_.keep_aspect) {
            const double ratio = std::min(static_cast<double>(target.h) / static_cast<double>(s.grid.h),
                                          static_cast<double>(target.w) / static_cast<double>(s.grid.w));
            inner.h = std::clamp<std::int64_t>(std::lround(static_cast<double>(s.grid.h) * ratio), 1, target.h);
            inner.w = std::clamp<std::int64_t>(std::lround(static_cast<double>(s.grid.w) * ratio), 1, target.w);
        }
        resize(s, inner, map);
        if (!(inner == target)) centre(s, target, map);
        return map;
    }

    IndexMap fit_volume(Sample& s) const {
        IndexMap map;
        if (!options_.spacing.empty()) {
            std::vector<double> wanted = options_.spacing;
            if (wanted.size() == 1) wanted.assign(3, wanted[0]);
            require(wanted.size() == 3, ErrorKind::usage, "[prepare] --spacing needs one or three numbers");
            const auto side = [&](std::int64_t n, std::size_t axis) {
                return std::max<std::int64_t>(1, std::llround(static_cast<double>(n) * s.spacing[axis] / wanted[axis]));
            };
            resize(s, {3, side(s.grid.d, 0), side(s.grid.h, 1), side(s.grid.w, 2)}, map);
        }
        if (!options_.size.empty()) {
            require(options_.size.size() != 2, ErrorKind::usage, "[prepare] --size has two sides, but ", s.where,
                    " is a volume");
            centre(s, grid_of(3, options_.size), map);
        }
        return map;
    }

    // affine: a stored index (d, h, w, 1) to source pixels in 2D, to mm in 3D. source_affine: likewise from a source
    // index.
    void remember_geometry(const Sample& s, const Grid& source, const IndexMap& map) {
        for (int row = 0; row < 4; ++row)
            for (int column = 0; column < 4; ++column) {
                const bool diagonal = row == column && row < 3;
                double unit = 1;
                if (row < 3 && s.grid.spatial_dims == 3 && !s.spacing.empty())
                    unit = s.spacing[static_cast<std::size_t>(row)] / map.scale[row];
                double value = row == 3 && column == 3 ? 1 : 0;
                double own = value;
                if (diagonal) {
                    value = unit * map.scale[row];
                    own = unit;
                } else if (row < 3 && column == 3) {
                    value = unit * map.shift[row];
                }
                affine_.push_back(value);
                source_affine_.push_back(own);
            }
        for (const std::int64_t side : {source.d, source.h, source.w})
            source_shape_.push_back(static_cast<std::int32_t>(side));
    }

    std::string preprocessing() const {
        static const std::map<Normalisation, const char*> names = {{Normalisation::range, "range"},
                                                                   {Normalisation::minmax, "minmax"},
                                                                   {Normalisation::percentile, "percentile"},
                                                                   {Normalisation::zscore, "zscore"},
                                                                   {Normalisation::ct, "ct"}};
        const Grid& g = result_.grid;
        nlohmann::json j;
        j["size"] =
            g.spatial_dims == 3 ? std::vector<std::int64_t>{g.d, g.h, g.w} : std::vector<std::int64_t>{g.h, g.w};
        j["channels"] = result_.channels;
        j["normalize"] = names.at(method_);
        if (method_ == Normalisation::ct) j["window"] = options_.window;
        j["store"] = name_of(result_.store);
        j["resample"] = "triangle, antialiased";
        j["keep_aspect"] = options_.keep_aspect;
        if (!options_.spacing.empty()) j["spacing"] = options_.spacing;
        return j.dump();
    }

    void write() {
        const Grid& g = result_.grid;
        const std::int64_t n = result_.written;
        std::vector<std::int64_t> spatial = {g.h, g.w};
        if (g.spatial_dims == 3) spatial.insert(spatial.begin(), g.d);
        std::vector<std::int64_t> shape = {n, result_.channels};
        shape.insert(shape.end(), spatial.begin(), spatial.end());
        H5Writer writer(options_.out);
        copy(writer, "/images", result_.store, shape, images_);
        writer.attribute("/images", "axes", std::string(g.spatial_dims == 3 ? "NCDHW" : "NCHW"));
        writer.attribute("/images", "spacing", spacing_);
        if (labels_) {
            std::vector<std::int64_t> label_shape = {n};
            label_shape.insert(label_shape.end(), spatial.begin(), spatial.end());
            copy(writer, "/labels", H5Store::uint8, label_shape, *labels_);
        }
        writer.strings("/subject", subjects_);
        writer.strings("/source", sources_);
        writer.doubles("/geometry/affine", {n, 4, 4}, affine_.data());
        writer.doubles("/geometry/source_affine", {n, 4, 4}, source_affine_.data());
        writer.dataset("/geometry/source_shape", H5Store::int32, {n, 3}, source_shape_.data());
        writer.attribute("/", "cover_schema", std::int64_t{1});
        writer.attribute("/", "preprocessing", preprocessing());
        writer.commit();
    }

    static void copy(H5Writer& writer, const std::string& path, H5Store store, const std::vector<std::int64_t>& shape,
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

    const PrepareOptions& options_;
    PrepareResult result_;
    Spool images_;
    std::optional<Spool> labels_;
    std::map<std::string, std::string> label_paths_;
    std::vector<std::string> subjects_, sources_;
    std::vector<double> affine_, source_affine_;
    std::vector<std::int32_t> source_shape_;
    std::vector<double> spacing_;
    Normalisation method_ = Normalisation::range;
    bool reading_ = true;  // false while the output is written: its errors are not an input's
};

}  // namespace

Normalisation parse_normalisation(const std::string& name) {
    if (name == "range") return Normalisation::range;
    if (name == "minmax") return Normalisation::minmax;
    if (name == "percentile") return Normalisation::percentile;
    if (name == "zscore") return Normalisation::zscore;
    if (name == "ct") return Normalisation::ct;
    fail(ErrorKind::usage,
         text("[prepare] --normalize ", name, ": there are range, minmax, percentile, zscore and ct"));
}

H5Store parse_store(const std::string& name) {
    for (const H5Store store : {H5Store::uint8, H5Store::uint16, H5Store::float16, H5Store::float32})
        if (name == name_of(store)) return store;
    fail(ErrorKind::usage, text("[prepare] --store ", name, ": there are uint8, uint16, float16 and float32"));
}

std::vector<std::int64_t> parse_sides(const std::string& sides) {
    std::vector<std::int64_t> out;
    const char* at = sides.data();
    const char* end = at + sides.size();
    for (bool more = true; more;) {
        std::int64_t side = 0;
        const auto [next, error] = std::from_chars(at, end, side);
        require(error == std::errc() && side >= 1 && side <= 65536 && out.size() < 3 && (next == end || *next == 'x'),
                ErrorKind::usage, "[prepare] \"", sides, "\" is no size; write 576, 480x640 or 96x96x96");
        out.push_back(side);
        more = next != end;
        at = next + 1;
    }
    return out;
}

PrepareResult prepare(const PrepareOptions& options) {
    require(!options.inputs.empty(), ErrorKind::usage, "[prepare] no input was named");
    require(!options.out.empty(), ErrorKind::usage, "[prepare] --out FILE.h5 is missing");
    require(options.channels_in == 1 || options.channels_in == 3, ErrorKind::usage, "[prepare] --channels-in ",
            options.channels_in, ": there are 1 (luminance) and 3 (colours)");
    require(options.window[1] > options.window[0], ErrorKind::usage, "[prepare] --window LO,HI needs LO < HI");
    for (const double x : options.spacing)
        require(std::isfinite(x) && x > 0, ErrorKind::usage, "[prepare] --spacing needs positive numbers of mm");
    for (const std::string& input : options.inputs) {
        std::error_code error;
        require(!fs::equivalent(input, options.out, error), ErrorKind::usage, "[prepare] ", options.out,
                " is an input and the output");
    }
    return Preparation(options).run();
}

}  // namespace cover
