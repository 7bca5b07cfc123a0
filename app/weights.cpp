#include "app/weights.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <utility>

#include "core/check.h"
#include "cover/trainer.h"

namespace cover::app {
namespace {

// Metadata entries that are one number of TrainConfig each.
constexpr std::pair<const char*, double TrainConfig::*> numbers[] = {
    {"degree", &TrainConfig::degree},           {"rotation", &TrainConfig::rotation}, {"scale", &TrainConfig::scale},
    {"translation", &TrainConfig::translation}, {"shear", &TrainConfig::shear},
};

constexpr std::int64_t longest_patch_side = 1 << 20;
constexpr double largest_range = 1e6;

double read_number(const std::string& word, const std::string& key, const std::string& source) {
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    require(error == std::errc() && end == word.data() + word.size() && std::isfinite(value) && value >= 0,
            ErrorKind::data, "[weights] ", source, ": the metadata '", key, "' is '", word, "', no number");
    return value;
}

std::array<std::int64_t, 3> read_patch(const std::string& patch, int dims, const std::string& source) {
    const char* at = patch.data();
    const char* const last = at + patch.size();
    std::array<std::int64_t, 3> sides{1, 1, 1};
    for (int axis = 3 - dims; axis < 3; ++axis) {
        std::int64_t side = 0;
        const auto [end, error] = std::from_chars(at, last, side);
        const bool separated = axis == 2 ? end == last : end != last && *end == ',';
        require(error == std::errc() && separated && side >= 16 && side % 16 == 0 && side <= longest_patch_side,
                ErrorKind::data, "[weights] ", source, ": the metadata 'patch' is '", patch, "'; ", dims,
                " sides are expected, each a multiple of 16 up to ", longest_patch_side);
        sides[static_cast<std::size_t>(axis)] = side;
        at = axis == 2 ? end : end + 1;
    }
    return sides;
}

}  // namespace

Metadata weights_metadata(const TrainConfig& config, const std::string& preprocessing) {
    Metadata metadata = to_metadata(model_config(config));
    metadata["format"] = "pt";  // what loaders of the Python package look for
    for (const auto& [key, member] : numbers) metadata[key] = text(config.*member);
    metadata["patch"] = config.dims == 2 ? text(config.patch[1], ",", config.patch[2])
                                         : text(config.patch[0], ",", config.patch[1], ",", config.patch[2]);
    if (!preprocessing.empty()) metadata["preprocessing"] = preprocessing;
    return metadata;
}

TrainConfig config_from_metadata(const Metadata& metadata, const std::string& source) {
    const ModelConfig model = from_metadata(metadata, source);
    TrainConfig config;
    config.dims = model.spatial_dims;
    config.in_channels = static_cast<int>(model.in_channels);
    config.channels = model.channels;
    config.head_dim = model.head_dim;
    config.heads = model.heads;
    config.radius = model.radius;
    config.levels = model.levels;
    config.warp = model.warp;

    const auto entry = [&](const std::string& key) -> const std::string& {
        const auto at = metadata.find(key);
        require(at != metadata.end(), ErrorKind::data, "[weights] ", source, " has no metadata '", key, "'");
        return at->second;
    };
    for (const auto& [key, member] : numbers) config.*member = read_number(entry(key), key, source);
    config.patch = read_patch(entry("patch"), config.dims, source);
    check_views(metadata, source);
    return config;
}

void check_views(const Metadata& metadata, const std::string& source) {
    const auto range = [&](const char* key) {
        const auto at = metadata.find(key);
        return at == metadata.end() ? 0.0 : read_number(at->second, key, source);
    };
    const double degree = metadata.contains("degree") ? range("degree") : 1.0;
    // What `pretrain` refuses as well, so that no file of its own is refused here.
    require(degree * range("scale") < 1, ErrorKind::data, "[weights] ", source, ": the metadata 'degree' is ", degree,
            " and 'scale' ", range("scale"),
            ", which would allow a scale of zero or less; the file is damaged or was altered");
    for (const auto& [key, member] : numbers)
        require(range(key) <= largest_range, ErrorKind::data, "[weights] ", source, ": the metadata '", key, "' is ",
                range(key), "; no network was trained with such views, so the file is damaged or was altered");
    if (const auto at = metadata.find("patch"); at != metadata.end())
        read_patch(at->second, metadata.contains("dims") && metadata.at("dims") == "3" ? 3 : 2, source);
}

bool is_backbone_only(const TensorFile& file) {
    for (const auto& t : file.tensors)
        if (t.name.rfind("proj.", 0) == 0) return false;
    return true;
}

void check_size(const TensorFile& file, const ModelConfig& config, const std::string& source) {
    std::int64_t held = 0;
    for (const auto& t : file.tensors) held += t.tensor.count();
    ParameterSet declared(config.spatial_dims);
    UNet(declared, config.in_channels, config.channels);
    if (!is_backbone_only(file))
        VectorPyramid(declared, config.channels, config.heads, config.head_dim, config.radius, config.levels,
                      config.warp);
    require(declared.trained_count() <= held, ErrorKind::data, "[weights] ", source, ": its metadata promise ",
            declared.trained_count(), " numbers, its tensors hold ", held, "; the file is damaged or was altered");
}

std::string weights_path(const std::string& run_or_file) {
    std::error_code error;
    if (!std::filesystem::is_directory(run_or_file, error)) return run_or_file;
    const auto path = run_or_file + "/model.safetensors";
    require(std::filesystem::exists(path, error), ErrorKind::io, "[weights] ", run_or_file,
            ": is a folder without model.safetensors; has the run finished?");
    return path;
}

}  // namespace cover::app
