#include "data/patches.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/hash.h"
#include "data/patch_source.h"

namespace cover {

namespace {

// More would keep a run of hundreds of gigabytes from starting.
constexpr std::int64_t most_hashed_bytes = std::int64_t{256} << 20;

}  // namespace

struct PatchFile::State {
    std::vector<PatchSource> sources;
    std::vector<std::int64_t> first;  // of each source, then the number of all samples
    PatchAccess access;
    std::string preprocessing;

    // The source that holds a sample; the sample becomes its index there.
    const PatchSource& locate(std::int64_t& sample) const {
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
        state->sources.emplace_back(path, access);
        const PatchSource& s = state->sources.back();
        const PatchSource& head = state->sources.front();
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
    const PatchSource& s = state_->locate(sample);
    return s.images.dataset(sample).type;
}

bool PatchFile::streamed() const {
    return std::any_of(state_->sources.begin(), state_->sources.end(),
                       [](const PatchSource& s) { return !!s.images.stream; });
}

std::array<double, 2> PatchFile::type_range(std::int64_t sample) const {
    const PatchSource& s = state_->locate(sample);
    const H5Type& type = s.images.dataset(sample).type;
    if (type.kind != H5Kind::integer) return {0, 1};
    const int bits = static_cast<int>(8 * type.size);
    const double low = type.is_signed ? -std::ldexp(1.0, bits - 1) : 0.0;
    const double high = std::ldexp(1.0, type.is_signed ? bits - 1 : bits) - 1.0;
    const double a = low * s.scale + s.offset, b = high * s.scale + s.offset;
    return {std::min(a, b), std::max(a, b)};
}

std::string PatchFile::subject(std::int64_t sample) const {
    const PatchSource& s = state_->locate(sample);
    return s.name_of(sample, s.subjects);
}

std::string PatchFile::source(std::int64_t sample) const {
    const PatchSource& s = state_->locate(sample);
    return s.name_of(sample, s.sources);
}

std::string PatchFile::where(std::int64_t sample) const {
    const PatchSource& s = state_->locate(sample);
    return text(s.path, ": sample ", sample);
}

void PatchFile::read_sample(std::int64_t sample, float* out) const {
    std::int64_t index = sample;
    const PatchSource& s = state_->locate(index);
    thread_local std::vector<unsigned char> bytes;
    thread_local std::vector<float> planes;
    s.images.read(s.file, index, bytes);
    const std::int64_t count = s.count();
    const bool reorder = s.channels > 1 && !s.axes.channels_last();
    if (reorder) planes.resize(static_cast<std::size_t>(count));
    float* values = reorder ? planes.data() : out;
    to_floats(s.images.dataset(index).type, bytes.data(), count, s.scale, s.offset, values);
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

LabelKind PatchFile::label_kind() const {
    const PatchSource& head = state_->sources.front();
    for (const PatchSource& s : state_->sources) {
        require(s.label_refusal.empty(), ErrorKind::data, "[patches] ", s.path, ": ", s.label_refusal);
        require(s.label_kind == head.label_kind, ErrorKind::data, "[patches] ", s.path,
                ": has labels of another kind than ", head.path, ", or none; prepare both with the same --labels");
    }
    return head.label_kind;
}

std::uint8_t PatchFile::class_label(std::int64_t sample) const {
    const PatchSource& s = state_->locate(sample);
    require(s.label_kind == LabelKind::classes, ErrorKind::internal, "[patches] ", s.path, ": has no class labels");
    std::uint8_t out = 0;
    s.read_labels(sample, &out);
    return out;
}

void PatchFile::read_labels(std::int64_t sample, std::uint8_t* out) const {
    const PatchSource& s = state_->locate(sample);
    require(s.label_kind == LabelKind::maps, ErrorKind::internal, "[patches] ", s.path, ": has no label maps");
    s.read_labels(sample, out);
}

bool PatchFile::has_geometry() const {
    return std::all_of(state_->sources.begin(), state_->sources.end(),
                       [](const PatchSource& s) { return s.has_geometry; });
}

SampleGeometry PatchFile::geometry(std::int64_t sample) const {
    const PatchSource& s = state_->locate(sample);
    require(s.has_geometry, ErrorKind::data, "[patches] ", s.path,
            ": has no /geometry, so that nothing can be laid back onto its source; prepare it with this program");
    return s.geometry(sample);
}

std::string PatchFile::content_hash() const {
    Sha256 hash;
    std::vector<unsigned char> bytes;
    std::int64_t total = 0;
    for (const PatchSource& s : state_->sources) total += s.samples * s.count() * s.images.datasets[0]->type.size;
    const std::int64_t stride = std::max<std::int64_t>(1, (total + most_hashed_bytes - 1) / most_hashed_bytes);
    std::int64_t sample = 0;
    for (const PatchSource& s : state_->sources) {
        const H5Type& type = s.images.datasets[0]->type;
        const std::string head = text(type.name(), type.big_endian ? " big-endian " : " ", s.samples, "x", s.channels,
                                      s.axes.channels_last() ? " last " : " first ", s.grid.spatial_dims, "D ",
                                      s.grid.d, "x", s.grid.h, "x", s.grid.w, " ", s.scale, " ", s.offset, "\n");
        hash.update(head.data(), head.size());
        for (std::int64_t i = 0; i < s.samples; ++i, ++sample) {
            if (sample % stride != 0 && sample + 1 != sample_count()) continue;
            s.images.read(s.file, i, bytes);
            hash.update(bytes.data(), bytes.size());
        }
    }
    return hash.hex();
}

}  // namespace cover
