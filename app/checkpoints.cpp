#include "app/checkpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "core/check.h"
#include "core/file.h"
#include "core/hash.h"

namespace cover::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* prefix = "step-";
constexpr std::uint64_t largest_manifest = 1 << 20;  // bytes

// One file of a checkpoint and its line in the manifest.
ordered_json write_part(const std::string& folder, const std::string& name, const std::string& shown,
                        const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
    FileWriter file(folder + "/" + name, shown + "/" + name);
    Sha256 hash;
    file.track(hash);
    write_safetensors(file, shown + "/" + name, tensors, metadata);
    file.close();
    return {{"bytes", safetensors_bytes(tensors, metadata)}, {"sha256", hash.hex()}};
}

TensorFile read_part(const CheckpointPlace& place, const std::string& name, const ordered_json& manifest) {
    const auto path = place.folder + "/" + name;
    std::error_code error;
    require(fs::is_regular_file(path, error), ErrorKind::data, "[checkpoint] ", path, ": is missing");
    const auto files = manifest.find("files");
    require(files != manifest.end() && files->is_object() && files->contains(name) && (*files)[name].is_object(),
            ErrorKind::data, "[checkpoint] ", place.folder, "/manifest.json: does not mention ", name);
    const auto& line = (*files)[name];
    const auto sha256 = line.value("sha256", ordered_json()), bytes = line.value("bytes", ordered_json());
    const auto held = fs::file_size(path, error);
    require(!error, ErrorKind::io, "[checkpoint] ", path, ": ", error.message());
    require(bytes.is_number_unsigned() && bytes.get<std::uint64_t>() == held, ErrorKind::data, "[checkpoint] ", path,
            ": has ", held, " bytes, its manifest says ", bytes.dump());
    require(sha256.is_string() && sha256.get<std::string>() == sha256_of_file(path), ErrorKind::data, "[checkpoint] ",
            path, ": is not the file that was written: its SHA-256 is another than the manifest's");
    return read_safetensors(path);
}

std::vector<fs::path> entries_of(const std::string& folder) {
    std::vector<fs::path> paths;
    std::error_code error;
    if (!fs::is_directory(folder, error)) return paths;
    fs::directory_iterator at(folder, error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) paths.push_back(at->path());
    require(!error, ErrorKind::io, "[checkpoint] ", folder, ": cannot be listed: ", error.message());
    std::sort(paths.begin(), paths.end());
    return paths;
}

}  // namespace

CheckpointContents checkpoint_contents(Trainer& trainer, const RunPosition& position, const Metadata& model_metadata,
                                       const ordered_json& facts) {
    return {trainer.steps_done(), trainer.model().to_file(), model_metadata, training_state(trainer, position), facts};
}

std::string checkpoint_folder(const std::string& run, std::int64_t step) {
    return fmt::format("{}/checkpoints/{}{:07}", run, prefix, step);
}

std::vector<CheckpointPlace> list_checkpoints(const std::string& run) {
    std::vector<CheckpointPlace> places;
    for (const auto& path : entries_of(run + "/checkpoints")) {
        const auto name = path.filename().string();
        if (name.rfind(prefix, 0) != 0) continue;
        const char* digits = name.data() + std::string(prefix).size();
        const char* end = name.data() + name.size();
        std::int64_t step = 0;
        const auto [at, error] = std::from_chars(digits, end, step);
        if (error == std::errc() && at == end && step >= 0) places.push_back({step, path.string()});
    }
    std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
    return places;
}

Checkpoint read_checkpoint(const CheckpointPlace& place) {
    Checkpoint checkpoint;
    checkpoint.place = place;
    const auto path = place.folder + "/manifest.json";
    std::error_code error;
    require(fs::is_regular_file(path, error), ErrorKind::data, "[checkpoint] ", path, ": is missing");
    checkpoint.manifest = ordered_json::parse(read_file(path, largest_manifest), nullptr, false);
    require(checkpoint.manifest.is_object(), ErrorKind::data, "[checkpoint] ", path, ": is no JSON object");
    checkpoint.model = read_part(place, "model.safetensors", checkpoint.manifest);
    checkpoint.state = read_part(place, "state.safetensors", checkpoint.manifest);
    return checkpoint;
}

NewestCheckpoint newest_checkpoint(const std::string& run) {
    NewestCheckpoint newest;
    auto places = list_checkpoints(run);
    for (; !places.empty() && !newest.checkpoint; places.pop_back()) {
        try {
            newest.checkpoint = read_checkpoint(places.back());
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::data) throw;
            newest.damaged_at.push_back(places.back());
            newest.damaged.push_back(error.what());
        }
    }
    return newest;
}

void set_aside(const CheckpointPlace& damaged) {
    const fs::path from(damaged.folder);
    const auto to = from.parent_path() / ("damaged-" + from.filename().string());
    std::error_code error;
    fs::remove_all(to, error);
    if (!error) fs::rename(from, to, error);
    require(!error, ErrorKind::io, "[checkpoint] ", damaged.folder, ": cannot be renamed: ", error.message());
}

std::uint64_t checkpoint_bytes(const CheckpointContents& contents) {
    return 2 * safetensors_bytes(contents.model, contents.model_metadata) +
           safetensors_bytes(contents.state.tensors, contents.state.metadata) + largest_manifest;
}

void save_checkpoint(const std::string& run, const CheckpointContents& contents) {
    create_folder(run + "/checkpoints");
    const auto path = checkpoint_folder(run, contents.step);
    AtomicFolder folder(path);
    ordered_json manifest{{"checkpoint", 1}, {"step", contents.step}};
    manifest.update(contents.facts);
    manifest["files"]["model.safetensors"] =
        write_part(folder.aside(), "model.safetensors", path, contents.model, contents.model_metadata);
    manifest["files"]["state.safetensors"] =
        write_part(folder.aside(), "state.safetensors", path, contents.state.tensors, contents.state.metadata);
    FileWriter file(folder.aside() + "/manifest.json", path + "/manifest.json");
    file.write(manifest.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
    file.close();
    folder.commit();
    write_safetensors(run + "/model.safetensors", contents.model, contents.model_metadata);
}

bool put_weights_right(const std::string& run, const Checkpoint& checkpoint) {
    const auto path = run + "/model.safetensors";
    std::error_code error;
    const auto& wanted = checkpoint.manifest["files"]["model.safetensors"]["sha256"];
    if (fs::exists(path, error) && wanted == sha256_of_file(path)) return false;
    write_safetensors(path, checkpoint.model.tensors, checkpoint.model.metadata);
    return true;
}

void prune_checkpoints(const std::string& run, int keep) {
    const auto places = list_checkpoints(run);
    for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < places.size(); ++i) remove_folder(places[i].folder);
}

void remove_leftovers(const std::string& run) {
    for (const auto& folder : {run, run + "/checkpoints"})
        for (const auto& path : entries_of(folder)) {
            if (!is_written_aside(path.string())) continue;
            std::error_code error;
            fs::remove_all(path, error);
            require(!error, ErrorKind::io, "[checkpoint] ", path.string(), ": cannot be removed: ", error.message());
        }
}

}  // namespace cover::app
