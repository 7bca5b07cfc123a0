#include "data/preprocessing.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "data/h5.h"
#include "data/nifti.h"
#include "data/quantise.h"

namespace cover {

namespace {

constexpr std::int64_t longest_side = 65536;

class Reader {
public:
    Reader(const nlohmann::json& json, const std::string& source) : json_(json), source_(source) {}

    const nlohmann::json* find(const char* key) const {
        const auto at = json_.find(key);
        return at == json_.end() ? nullptr : &*at;
    }
    [[noreturn]] void refuse(const char* key, const std::string& why) const {
        fail(ErrorKind::data, text("[weights] ", source_, ": the metadata 'preprocessing' has '", key, "' ", why,
                                   "; the file is damaged or was altered"));
    }
    std::vector<double> numbers(const char* key, std::size_t least, std::size_t most) const {
        std::vector<double> out;
        const auto* list = find(key);
        if (!list) return out;
        if (!list->is_array() || list->size() < least || list->size() > most) refuse(key, "of another length");
        for (const auto& item : *list) {
            if (!item.is_number() || !std::isfinite(item.get<double>())) refuse(key, "with an entry that is no number");
            out.push_back(item.get<double>());
        }
        return out;
    }
    std::string word(const char* key) const {
        const auto* value = find(key);
        if (!value) return {};
        if (!value->is_string()) refuse(key, "that is no word");
        return value->get<std::string>();
    }

private:
    const nlohmann::json& json_;
    const std::string& source_;
};

// The values that a type can hold, as a loader hands them out.
void round_to(H5Store store, std::vector<float>& values) {
    const std::vector<unsigned char> bytes = quantise(values, store);
    const bool integer = store == H5Store::uint8 || store == H5Store::uint16;
    const H5Type type{integer ? H5Kind::integer : H5Kind::floating, size_of(store), false, false};
    const double scale = integer ? 1.0 / (std::ldexp(1.0, static_cast<int>(8 * type.size)) - 1.0) : 1.0;
    to_floats(type, bytes.data(), static_cast<std::int64_t>(values.size()), scale, 0.0, values.data());
}

}  // namespace

Preprocessing Preprocessing::parse(const std::string& json, int spatial_dims, const std::string& source) {
    Preprocessing out;
    if (json.empty()) return out;
    const auto parsed = nlohmann::json::parse(json, nullptr, false);
    require(parsed.is_object(), ErrorKind::data, "[weights] ", source,
            ": the metadata 'preprocessing' is no JSON object; the file is damaged or was altered");
    const Reader reader(parsed, source);
    const auto dims = static_cast<std::size_t>(spatial_dims);
    for (const double side : reader.numbers("size", dims, dims)) {
        if (!(side >= 1 && side <= static_cast<double>(longest_side)) || side != std::floor(side))
            reader.refuse("size", text("with the side ", side));
        out.options.size.push_back(static_cast<std::int64_t>(side));
    }
    out.options.spacing = reader.numbers("spacing", 1, 3);
    for (const double mm : out.options.spacing)
        if (!(mm > 0) || out.options.spacing.size() == 2 || spatial_dims == 2)
            reader.refuse("spacing", "that is none of a volume");
    if (const auto* keep = reader.find("keep_aspect")) {
        if (!keep->is_boolean()) reader.refuse("keep_aspect", "that is neither true nor false");
        out.options.keep_aspect = keep->get<bool>();
        if (out.options.keep_aspect && spatial_dims == 3) reader.refuse("keep_aspect", "for volumes");
    }
    if (const auto window = reader.numbers("window", 2, 2); !window.empty()) {
        if (!(window[0] < window[1])) reader.refuse("window", "that does not ascend");
        out.options.window = {window[0], window[1]};
    }
    const auto method = reader.word("normalize"), store = reader.word("store");
    try {
        if (!method.empty()) out.options.normalise = parse_normalisation(method);
        if (!store.empty()) out.store = parse_store(store);
    } catch (const Error&) {
        reader.refuse(method.empty() ? "store" : "normalize", text("'", method, "' and 'store' '", store, "'"));
    }
    if (out.options.normalise == Normalisation::ct && !out.options.window)
        reader.refuse("normalize", "'ct' without a window");
    return out;
}

std::int64_t preprocess(Sample& sample, const Preprocessing& how) {
    Normalisation method = how.options.normalise;
    if (method == Normalisation::automatic) method = sample.in_range ? Normalisation::range : Normalisation::minmax;
    const Normalised normalised =
        normalise(sample.values, method, sample.type_range, how.options.window.value_or(std::array{0.0, 1.0}));
    require(normalised.refusal.empty(), ErrorKind::data, "[apply] ", sample.where, ": ", normalised.refusal);
    if (sample.grid.spatial_dims == 2) {
        fit(sample, how.options, false);
    } else {
        PrepareOptions spacing = how.options, size;
        spacing.size.clear();
        fit(sample, spacing, false);
        const std::int64_t sides[3] = {sample.grid.d, sample.grid.h, sample.grid.w};
        size.size = how.options.size;
        for (std::size_t axis = 0; axis < size.size.size(); ++axis)
            size.size[axis] = std::max(size.size[axis], sides[axis]);
        fit(sample, size, false);
    }
    require(sample.grid.pixels() <= nifti_max_voxels, ErrorKind::data, "[apply] ", sample.where, ": would have ",
            sample.grid.pixels(), " pixels at the network's size; at most 2^30 are taken");
    if (how.store) round_to(*how.store, sample.values);
    return normalised.non_finite;
}

}  // namespace cover
