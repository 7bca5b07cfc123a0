#include "data/patch_source.h"

#include <cmath>
#include <filesystem>

#include "core/check.h"

namespace cover {

struct SampleRows::Stream {
    H5Stream rows;
    std::int64_t next = 0;
    Stream(const H5File& file, const H5Dataset& dataset) : rows(file, dataset) {}
};

void SampleRows::read(const H5File& file, std::int64_t sample, std::vector<unsigned char>& bytes) const {
    const H5Dataset& d = dataset(sample);
    if (!rows) {
        bytes = file.read_bytes(d);
        return;
    }
    bytes.resize(static_cast<std::size_t>(d.row_count() * d.type.size));
    if (!stream) {
        file.read_row(d, sample, bytes.data());
        return;
    }
    require(sample >= stream->next, ErrorKind::internal, "[patches] ", file.path(), ": samples are read in order");
    for (; stream->next <= sample; ++stream->next) stream->rows.next(bytes.data());
}

namespace {

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

std::string repack_hint(const std::string& path) {
    return text("repack the file first: cover prepare ", path, " --out REPACKED.h5");
}

}  // namespace

// The data sets that hold the images, and the object that carries their attributes.
std::string PatchSource::find_images(const PatchAccess& access) {
    if (file.has_group("/images")) {
        images.rows = false;
        for (const auto& [name, d] : file.datasets())
            if (name.rfind("/images/", 0) == 0 && name.find('/', 8) == std::string::npos)
                images.datasets.push_back(&file.dataset(name));
        require(!images.datasets.empty(), ErrorKind::data, "[patches] ", path, ": the group /images is empty");
        return "/images";
    }
    std::string name = "/images";
    if (!file.find(name) && access.sequential) {
        // A stranger's file: the one data set that can be images.
        std::string all;
        int found = 0;
        for (const auto& [candidate, d] : file.datasets())
            if (d.type.numeric() && d.shape.size() >= 3 && d.shape.size() <= 5) {
                name = candidate;
                all += (found++ ? ", " : "") + candidate;
            }
        require(found <= 1, ErrorKind::data, "[patches] ", path, ": there is no /images, and several datasets could be",
                " meant: ", all, "; rename one to /images");
    }
    images.datasets.push_back(&file.dataset(name));
    return name;
}

void PatchSource::find_axes(const std::string& owner) {
    const H5Dataset& first = *images.datasets[0];
    require(first.type.numeric(), ErrorKind::data, "[patches] ", path, ": ", first.path, " holds no numbers");
    const int rank = static_cast<int>(first.shape.size());
    std::string name;
    if (const H5Attribute* attribute = file.find_attribute(owner, "axes");
        attribute && attribute->strings.size() == 1) {
        name = attribute->strings[0];
        require(!images.rows || (!name.empty() && name[0] == 'N'), ErrorKind::data, "[patches] ", path, ": axes \"",
                name, "\" of ", owner, " do not begin with N, the samples");
        if (!name.empty() && name[0] == 'N') name.erase(0, 1);
    } else {
        const int sample_rank = images.rows ? rank - 1 : rank;
        name = sample_rank == 2 ? "HW" : sample_rank == 3 ? "CHW" : sample_rank == 4 ? "CDHW" : "";
    }
    const std::optional<Axes> parsed = parse_axes(name);
    require(parsed && parsed->rank == (images.rows ? rank - 1 : rank), ErrorKind::data, "[patches] ", path, ": ", owner,
            " has ", rank, " axes",
            name.empty() ? "" : " called \"" + std::string(images.rows ? "N" : "") + name + "\"",
            "; expected are (N, C, H, W), (N, C, D, H, W) or an attribute axes such as \"NHWC\"");
    axes = *parsed;
    const auto side = [&](int axis) {
        return axis < 0 ? std::int64_t{1} : first.shape[static_cast<std::size_t>(axis + (images.rows ? 1 : 0))];
    };
    grid = {axes.d >= 0 ? 3 : 2, side(axes.d), side(axes.h), side(axes.w)};
    require(side(axes.c) <= 65536, ErrorKind::data, "[patches] ", path, ": ", side(axes.c), " channels");
    channels = static_cast<int>(side(axes.c));
    samples = images.rows ? first.shape[0] : static_cast<std::int64_t>(images.datasets.size());
    for (const H5Dataset* d : images.datasets) {
        require(d->shape == first.shape && d->type == first.type, ErrorKind::data, "[patches] ", path, ": ", d->path,
                " has another shape or type than ", first.path, "; all samples of a file are alike");
    }
    require(samples > 0 && count() > 0, ErrorKind::data, "[patches] ", path, ": ", owner, " holds no samples");
}

void PatchSource::find_values(const std::string& owner, const PatchAccess& access) {
    const int dims = grid.spatial_dims;
    spacing.assign(static_cast<std::size_t>(dims), 1.0);
    if (file.find_attribute(owner, "spacing")) {
        spacing = file.numbers(owner, "spacing");
        bool good = static_cast<int>(spacing.size()) == dims;
        for (const double x : spacing) good = good && std::isfinite(x) && x > 0;
        require(good, ErrorKind::data, "[patches] ", path, ": attribute spacing of ", owner, " must be ", dims,
                " positive numbers");
    }
    for (const char* name : {"scale", "offset"})
        if (file.find_attribute(owner, name)) {
            const double value = file.number(owner, name);
            require(std::isfinite(value), ErrorKind::data, "[patches] ", path, ": attribute ", name, " of ", owner,
                    " is not finite");
            (std::string(name) == "scale" ? scale : offset) = value;
            scaled = true;
        }
    const H5Type& type = images.datasets[0]->type;
    if (!scaled && !access.stored_units && type.kind == H5Kind::integer && !type.is_signed)
        scale = 1.0 / (std::ldexp(1.0, static_cast<int>(8 * type.size)) - 1.0);
}

std::string PatchSource::name_of(std::int64_t sample, const std::vector<std::string>& names) const {
    if (!names.empty()) return names[static_cast<std::size_t>(sample)];
    return text(std::filesystem::path(path).filename().string(), ":", sample);
}

void PatchSource::find_names() {
    const auto read = [&](const char* dataset) {
        std::vector<std::string> out;
        const H5Dataset* d = file.find(dataset);
        if (d && d->type.kind == H5Kind::string) {
            out = file.read_strings(file.dataset(dataset));
            require(static_cast<std::int64_t>(out.size()) == samples, ErrorKind::data, "[patches] ", path, ": ",
                    dataset, " has ", out.size(), " entries for ", samples, " samples");
        } else if (d && d->type.kind == H5Kind::integer && d->count() == samples) {
            for (const double x : file.read_doubles(dataset))
                out.push_back(std::abs(x) < 0x1p63 ? text(static_cast<std::int64_t>(x)) : text(x));
        }
        return out;
    };
    subjects = read("/subject");
    sources = read("/source");
}

PatchSource::PatchSource(const std::string& p, const PatchAccess& access) : path(p), file(H5File::open(p)) {
    const std::string owner = find_images(access);
    find_axes(owner);
    for (const H5Dataset* d : images.datasets) file.check_held(*d, count() * d->type.size);
    find_values(owner, access);
    find_names();
    const std::string why = open_rows(images, access);
    require(why.empty(), ErrorKind::data, "[patches] ", path, ": ", images.datasets[0]->path, " ", why);
    find_labels(access);
    const auto has = [&](const char* name, const std::vector<std::int64_t>& shape) {
        const H5Dataset* d = file.find(name);
        return d && d->type.numeric() && d->shape == shape && d->row_is_one_read();
    };
    has_geometry = has("/geometry/affine", {samples, 4, 4}) && has("/geometry/source_affine", {samples, 4, 4}) &&
                   has("/geometry/source_shape", {samples, 3});
}

std::string PatchSource::open_rows(SampleRows& rows, const PatchAccess& access) const {
    const H5Dataset& d = *rows.datasets[0];
    if (!rows.rows || d.row_is_one_read()) return {};
    if (access.sequential) {
        rows.stream = std::make_shared<SampleRows::Stream>(file, d);
        return {};
    }
    return (d.too_many_chunks ? text("is cut into more than ", H5File::max_chunks, " chunks; ")
                              : text("is cut through its samples; ")) +
           repack_hint(path);
}

void PatchSource::find_labels(const PatchAccess& access) {
    const bool group = file.has_group("/labels");
    std::vector<std::int64_t> shape;
    if (group) {
        // Beside /images/NAME lies /labels/NAME.
        labels.rows = false;
        for (const H5Dataset* image : images.datasets) {
            const H5Dataset* d = images.rows ? nullptr : file.find("/labels" + image->path.substr(7));
            if (d) labels.datasets.push_back(d);
        }
        if (labels.datasets.size() != images.datasets.size() || images.rows) {
            label_refusal = "has a group /labels without a data set for every one of /images";
            return;
        }
        shape = labels.datasets[0]->shape;
    } else {
        const H5Dataset* d = file.find("/labels");
        if (!d) return;
        labels.datasets.push_back(d);
        shape = d->shape;
        if (shape.empty() || shape[0] != samples) {
            label_refusal = text("has /labels for another number of samples than its ", samples);
            return;
        }
        shape.erase(shape.begin());
    }
    std::vector<std::int64_t> spatial = {grid.h, grid.w};
    if (grid.spatial_dims == 3) spatial.insert(spatial.begin(), grid.d);
    // One channel in front is the same bytes.
    if (shape.size() == spatial.size() + 1 && shape[0] == 1) shape.erase(shape.begin());
    for (const H5Dataset* d : labels.datasets)
        if (!d->unreadable.empty() || d->type.kind != H5Kind::integer || d->shape != labels.datasets[0]->shape) {
            label_refusal = text("has labels in ", d->path, " that are not integers of one shape");
            return;
        }
    if (!shape.empty() && shape != spatial && shape != std::vector<std::int64_t>{1}) {
        label_refusal = "has /labels of another size than its images";
        return;
    }
    label_refusal = open_rows(labels, access);
    if (!label_refusal.empty()) label_refusal = "has /labels that " + label_refusal;
    label_kind = shape == spatial ? LabelKind::maps : LabelKind::classes;
}

void PatchSource::read_labels(std::int64_t sample, std::uint8_t* out) const {
    std::vector<unsigned char> bytes;
    labels.read(file, sample, bytes);
    const std::int64_t count = label_kind == LabelKind::maps ? grid.pixels() : 1;
    const H5Dataset& d = labels.dataset(sample);
    std::vector<double> values(static_cast<std::size_t>(count));
    to_doubles(d.type, bytes.data(), count, values.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
        require(values[i] >= 0 && values[i] <= 255, ErrorKind::data, "[patches] ", path, ": sample ", sample,
                " has the label ", values[i], "; classes are numbered 0 to 255");
        out[i] = static_cast<std::uint8_t>(values[i]);
    }
}

SampleGeometry PatchSource::geometry(std::int64_t sample) const {
    const auto read = [&](const char* name, double* out, std::int64_t count) {
        const H5Dataset& d = file.dataset(name);
        std::vector<unsigned char> bytes(static_cast<std::size_t>(count * d.type.size));
        file.read_row(d, sample, bytes.data());
        to_doubles(d.type, bytes.data(), count, out);
    };
    SampleGeometry out;
    double shape[3];
    read("/geometry/affine", out.affine.m.data(), 16);
    read("/geometry/source_affine", out.source_affine.m.data(), 16);
    read("/geometry/source_shape", shape, 3);
    bool good = out.affine.valid() && out.source_affine.valid();
    for (const double side : shape) good = good && side >= 1 && side <= 0x1p40;
    require(good, ErrorKind::data, "[patches] ", path, ": sample ", sample,
            ": its /geometry holds an affine without an inverse or an impossible shape; prepare the file again");
    for (std::size_t axis = 0; axis < 3; ++axis) out.source_shape[axis] = static_cast<std::int64_t>(shape[axis]);
    return out;
}

}  // namespace cover
