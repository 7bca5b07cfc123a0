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
    for (const auto& [key, member] : numbers) {
        const auto& word = entry(key);
        double value = 0;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        require(error == std::errc() && end == word.data() + word.size() && std::isfinite(value) && value >= 0,
                ErrorKind::data, "[weights] ", source, ": the metadata '", key, "' is '", word, "', no number");
        config.*member = value;
    }
    const auto& patch = entry("patch");
    const char* at = patch.data();
    const char* const last = at + patch.size();
    config.patch = {1, 1, 1};
    for (int axis = 3 - config.dims; axis < 3; ++axis) {
        std::int64_t side = 0;
        const auto [end, error] = std::from_chars(at, last, side);
        const bool separated = axis == 2 ? end == last : end != last && *end == ',';
        require(error == std::errc() && separated && side >= 1 && side <= (1 << 20), ErrorKind::data, "[weights] ",
                source, ": the metadata 'patch' is '", patch, "'; ", config.dims, " sides are expected");
        config.patch[static_cast<std::size_t>(axis)] = side;
        at = axis == 2 ? end : end + 1;
    }
    return config;
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
