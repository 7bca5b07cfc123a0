#include "data/patches.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "core/check.h"
#include "core/hash.h"

namespace cover {

namespace {

// Where each axis of a sample stands in the stored shape; -1 when it does not.
struct Axes {
    int d = -1, h = -1, w = -1, c = -1;
    int rank = 0;

    bool channels_last() const { return c == rank - 1 && c > 0; }
};

// name without its leading N: "CHW". Nothing when it is not known.
std::optional<Axes> parse_axes(const std::string& name) {
    for (const char* known : {"HW", "CHW", "HWC", "DHW", "CDHW", "DHWC"})
        if (name == known) {
            Axes axes;
            axes.rank = static_cast<int>(name.size());
            const auto at = [&](char letter) {
                const std::size_t found = name.find(letter);
                return found == std::string::npos ? -1 : static_cast<int>(found);
            };
            axes.d = at('D');
            axes.h = at('H');
            axes.w = at('W');
            axes.c = at('C');
            return axes;
        }
    return std::nullopt;
}

struct Stream {
    H5Stream rows;
    std::int64_t next = 0;
    Stream(const H5File& file, const H5Dataset& dataset) : rows(file, dataset) {}
};

// One file: its samples are the rows of one data set, or one data set each.
struct Source {
    std::string path;
    H5File file;
    std::vector<const H5Dataset*> datasets;
    bool rows = true;
    Axes axes;
    std::int64_t samples = 0;
    Grid grid;
    int channels = 1;
    std::vector<double> spacing;
    bool scaled = false;  // the file names scale or offset
    double scale = 1, offset = 0;
    std::vector<std::string> subjects, sources;
    std::shared_ptr<Stream> stream;  // for a file that is cut through its samples

    explicit Source(const std::string& p) : path(p), file(H5File::open(p)) {}

    const H5Dataset& dataset(std::int64_t sample) const {
        return *datasets[rows ? 0 : static_cast<std::size_t>(sample)];
    }
    std::int64_t count() const { return grid.pixels() * channels; }

    // The stored bytes of a sample.
    void read(std::int64_t sample, std::vector<unsigned char>& bytes) const {
        const H5Dataset& d = dataset(sample);
        if (!rows) {
            bytes = file.read_bytes(d);
            return;
        }
        bytes.resize(static_cast<std::size_t>(count() * d.type.size));
        if (!stream) {
            file.read_row(d, sample, bytes.data());
        } else {
            require(sample == stream->next, ErrorKind::internal, "[patches] ", path, ": samples are read in order");
            ++stream->next;
            stream->rows.next(bytes.data());
        }
    }
};

std::string repack_hint(const std::string& path) {
    return text("repack the file first: cover prepare ", path, " --out REPACKED.h5");
}

// The data sets that hold the images, and the object that carries their attributes.
std::string find_images(Source& s, const PatchAccess& access) {
    const H5File& file = s.file;
    if (file.has_group("/images")) {
        s.rows = false;
        for (const auto& [name, d] : file.datasets())
            if (name.rfind("/images/", 0) == 0 && name.find('/', 8) == std::string::npos)
                s.datasets.push_back(&file.dataset(name));
        require(!s.datasets.empty(), ErrorKind::data, "[patches] ", s.path, ": the group /images is empty");
        return "/images";
    }
    std::string name = "/images";
    if (!file.find(name) && access.sequential) {
        // A stranger's file: the one data set that can be images.
        std::string all;
        int found = 0;
        for (const auto& [path, d] : file.datasets())
            if (d.type.numeric() && d.shape.size() >= 3 && d.shape.size() <= 5) {
                name = path;
                all += (found++ ? ", " : "") + path;
            }
        require(found <= 1, ErrorKind::data, "[patches] ", s.path,
                ": there is no /images, and several datasets could be", " meant: ", all, "; rename one to /images");
    }
    s.datasets.push_back(&file.dataset(name));
    return name;
}

void find_axes(Source& s, const std::string& owner) {
    const H5Dataset& first = *s.datasets[0];
    const int rank = static_cast<int>(first.shape.size());
    std::string name;
    if (const H5Attribute* attribute = s.file.find_attribute(owner, "axes");
        attribute && attribute->strings.size() == 1) {
        name = attribute->strings[0];
        require(!s.rows || (!name.empty() && name[0] == 'N'), ErrorKind::data, "[patches] ", s.path, ": axes \"", name,
                "\" of ", owner, " do not begin with N, the samples");
        if (!name.empty() && name[0] == 'N') name.erase(0, 1);
    } else {
        const int sample_rank = s.rows ? rank - 1 : rank;
        name = sample_rank == 2 ? "HW" : sample_rank == 3 ? "CHW" : sample_rank == 4 ? "CDHW" : "";
    }
    const std::optional<Axes> axes = parse_axes(name);
    require(axes && axes->rank == (s.rows ? rank - 1 : rank), ErrorKind::data, "[patches] ", s.path, ": ", owner,
            " has ", rank, " axes", name.empty() ? "" : " called \"" + std::string(s.rows ? "N" : "") + name + "\"",
            "; expected are (N, C, H, W), (N, C, D, H, W) or an attribute axes such as \"NHWC\"");
    s.axes = *axes;
    const auto side = [&](int axis) {
        return axis < 0 ? std::int64_t{1} : first.shape[static_cast<std::size_t>(axis + (s.rows ? 1 : 0))];
    };
    s.grid = {axes->d >= 0 ? 3 : 2, side(axes->d), side(axes->h), side(axes->w)};
    require(side(axes->c) <= 65536, ErrorKind::data, "[patches] ", s.path, ": ", side(axes->c), " channels");
    s.channels = static_cast<int>(side(axes->c));
    s.samples = s.rows ? first.shape[0] : static_cast<std::int64_t>(s.datasets.size());
    for (const H5Dataset* d : s.datasets) {
        require(d->type.numeric(), ErrorKind::data, "[patches] ", s.path, ": ", d->path, " holds no numbers");
        require(d->shape == first.shape && d->type == first.type, ErrorKind::data, "[patches] ", s.path, ": ", d->path,
                " has another shape or type than ", first.path, "; all samples of a file are alike");
    }
    require(s.samples > 0 && s.count() > 0, ErrorKind::data, "[patches] ", s.path, ": ", owner, " holds no samples");
}

void find_values(Source& s, const std::string& owner, const PatchAccess& access) {
    const int dims = s.grid.spatial_dims;
    s.spacing.assign(static_cast<std::size_t>(dims), 1.0);
    if (s.file.find_attribute(owner, "spacing")) {
        s.spacing = s.file.numbers(owner, "spacing");
        bool good = static_cast<int>(s.spacing.size()) == dims;
        for (const double x : s.spacing) good = good && std::isfinite(x) && x > 0;
        require(good, ErrorKind::data, "[patches] ", s.path, ": attribute spacing of ", owner, " must be ", dims,
                " positive numbers");
    }
    for (const char* name : {"scale", "offset"})
        if (s.file.find_attribute(owner, name)) {
            const double value = s.file.number(owner, name);
            require(std::isfinite(value), ErrorKind::data, "[patches] ", s.path, ": attribute ", name, " of ", owner,
                    " is not finite");
            (std::string(name) == "scale" ? s.scale : s.offset) = value;
            s.scaled = true;
        }
    const H5Type& type = s.datasets[0]->type;
    if (!s.scaled && !access.stored_units && type.kind == H5Kind::integer && !type.is_signed)
        s.scale = 1.0 / (std::ldexp(1.0, static_cast<int>(8 * type.size)) - 1.0);
}

void find_names(Source& s) {
    const std::string name = std::filesystem::path(s.path).filename().string();
    const auto read = [&](const char* path) {
        std::vector<std::string> out;
        const H5Dataset* d = s.file.find(path);
        if (d && d->type.kind == H5Kind::string) {
            out = s.file.read_strings(s.file.dataset(path));
            require(static_cast<std::int64_t>(out.size()) == s.samples, ErrorKind::data, "[patches] ", s.path, ": ",
                    path, " has ", out.size(), " entries for ", s.samples, " samples");
        } else if (d && d->type.kind == H5Kind::integer && d->count() == s.samples) {
            for (const double x : s.file.read_doubles(path)) out.push_back(text(static_cast<std::int64_t>(x)));
        } else {
            for (std::int64_t i = 0; i < s.samples; ++i) out.push_back(text(name, ":", i));
        }
        return out;
    };
    s.subjects = read("/subject");
    s.sources = read("/source");
}

Source open_source(const std::string& path, const PatchAccess& access) {
    Source s(path);
    const std::string owner = find_images(s, access);
    find_axes(s, owner);
    find_values(s, owner, access);
    find_names(s);
    if (!s.rows) return s;
    const H5Dataset& d = *s.datasets[0];
    if (d.row_is_one_read()) return s;
    if (access.sequential) {
        s.stream = std::make_shared<Stream>(s.file, d);
        return s;
    }
    require(!d.too_many_chunks, ErrorKind::data, "[patches] ", path, ": ", d.path, " is cut into more than ",
            H5File::max_chunks, " chunks; ", repack_hint(path));
    fail(ErrorKind::data, text("[patches] ", path, ": ", d.path, " is cut through its samples; ", repack_hint(path)));
}

}  // namespace

struct PatchFile::State {
    std::vector<Source> sources;
    std::vector<std::int64_t> first;  // of each source, then the number of all samples
    PatchAccess access;
    std::string preprocessing;

    // The source that holds a sample; the sample becomes its index there.
    const Source& locate(std::int64_t& sample) const {
        require(sample >= 0 && sample < first.back(), ErrorKind::internal, "[patches] sample ", sample, " of ",
                first.back());
        const auto after = std::upper_bound(first.begin(), first.end(), sample);
        const auto index = static_cast<std::size_t>(after - first.begin() - 1);
        sample -= first[index];
        return sources[index];
    }
};

PatchFile PatchFile::open(const std::vector<std::string>& paths, const PatchAccess& access) {
    require(!paths.empty(), ErrorKind::usage, "[patches] no patch file was named");
    auto state = std::make_shared<State>();
    state->access = access;
    state->first.push_back(0);
    for (const std::string& path : paths) {
        state->sources.push_back(open_source(path, access));
        const Source& s = state->sources.back();
        const Source& head = state->sources.front();
        require(s.grid == head.grid && s.channels == head.channels, ErrorKind::data, "[patches] ", path,
                ": its samples have another size or number of channels than those of ", head.path,
                "; prepare both with the same --size and --channels-in");
        state->first.push_back(state->first.back() + s.samples);
    }
    const H5Attribute* preprocessing = state->sources[0].file.find_attribute("/", "preprocessing");
    if (preprocessing && preprocessing->strings.size() == 1) state->preprocessing = preprocessing->strings[0];
    return PatchFile(std::move(state));
}

std::int64_t PatchFile::sample_count() const { return state_->first.back(); }
int PatchFile::spatial_dims() const { return state_->sources[0].grid.spatial_dims; }
Grid PatchFile::grid() const { return state_->sources[0].grid; }
int PatchFile::channels() const { return state_->sources[0].channels; }
std::vector<double> PatchFile::spacing() const { return state_->sources[0].spacing; }
const std::string& PatchFile::preprocessing() const { return state_->preprocessing; }

H5Type PatchFile::type(std::int64_t sample) const {
    const Source& s = state_->locate(sample);
    return s.dataset(sample).type;
}

bool PatchFile::streamed() const {
    return std::any_of(state_->sources.begin(), state_->sources.end(), [](const Source& s) { return !!s.stream; });
}

std::array<double, 2> PatchFile::type_range(std::int64_t sample) const {
    const Source& s = state_->locate(sample);
    const H5Type& type = s.dataset(sample).type;
    if (type.kind != H5Kind::integer) return {0, 1};
    const int bits = static_cast<int>(8 * type.size);
    const double low = type.is_signed ? -std::ldexp(1.0, bits - 1) : 0.0;
    const double high = std::ldexp(1.0, type.is_signed ? bits - 1 : bits) - 1.0;
    const double a = low * s.scale + s.offset, b = high * s.scale + s.offset;
    return {std::min(a, b), std::max(a, b)};
}

const std::string& PatchFile::subject(std::int64_t sample) const {
    const Source& s = state_->locate(sample);
    return s.subjects[static_cast<std::size_t>(sample)];
}

const std::string& PatchFile::source(std::int64_t sample) const {
    const Source& s = state_->locate(sample);
    return s.sources[static_cast<std::size_t>(sample)];
}

std::string PatchFile::where(std::int64_t sample) const {
    const Source& s = state_->locate(sample);
    return text(s.path, ": sample ", sample);
}

void PatchFile::read_sample(std::int64_t sample, float* out) const {
    std::int64_t index = sample;
    const Source& s = state_->locate(index);
    thread_local std::vector<unsigned char> bytes;
    thread_local std::vector<float> planes;
    s.read(index, bytes);
    const std::int64_t count = s.count();
    const bool reorder = s.channels > 1 && !s.axes.channels_last();
    if (reorder) planes.resize(static_cast<std::size_t>(count));
    float* values = reorder ? planes.data() : out;
    to_floats(s.dataset(index).type, bytes.data(), count, s.scale, s.offset, values);
    if (!state_->access.allow_non_finite)
        for (std::int64_t i = 0; i < count; ++i)
            if (!std::isfinite(values[i]))
                fail(ErrorKind::data, text("[patches] ", where(sample), " (", source(sample),
                                           ") holds a value that is NaN or infinite; repair the file or leave the "
                                           "sample out"));
    if (!reorder) return;
    const std::int64_t pixels = s.grid.pixels();
    for (int c = 0; c < s.channels; ++c)
        for (std::int64_t p = 0; p < pixels; ++p) out[p * s.channels + c] = values[c * pixels + p];
}

std::string PatchFile::content_hash() const {
    Sha256 hash;
    std::vector<unsigned char> bytes;
    for (const Source& s : state_->sources) {
        const H5Type& type = s.datasets[0]->type;
        const std::string head = text(type.name(), type.big_endian ? " big-endian " : " ", s.samples, "x", s.channels,
                                      s.axes.channels_last() ? " last " : " first ", s.grid.spatial_dims, "D ",
                                      s.grid.d, "x", s.grid.h, "x", s.grid.w, " ", s.scale, " ", s.offset, "\n");
        hash.update(head.data(), head.size());
        for (std::int64_t i = 0; i < s.samples; ++i) {
            s.read(i, bytes);
            hash.update(bytes.data(), bytes.size());
        }
    }
    return hash.hex();
}

}  // namespace cover
