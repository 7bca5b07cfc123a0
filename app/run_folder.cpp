#include "app/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "app/checkpoints.h"
#include "app/config.h"
#include "core/check.h"
#include "core/file.h"

namespace cover::app {

void refuse_used_folder(const std::string& folder) {
    for (const char* name : {"config.toml", "log.jsonl", "model.safetensors", "checkpoints"}) {
        std::error_code error;
        require(!std::filesystem::exists(folder + "/" + name, error), ErrorKind::configuration, "[pretrain] ", folder,
                ": holds a run already (", name, "); choose another --out, or go on with --resume");
    }
}

FolderLock::FolderLock(const std::string& folder) {
    file_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file_ < 0) return;
    int locked = 0;
    do locked = ::flock(file_, LOCK_EX | LOCK_NB);
    while (locked != 0 && errno == EINTR);
    const bool taken = locked != 0 && errno == EWOULDBLOCK;
    if (taken) ::close(file_);
    require(!taken, ErrorKind::configuration, "[pretrain] ", folder,
            ": another process trains in this folder; wait for its end, or interrupt it");
}

FolderLock::~FolderLock() {
    if (file_ >= 0) ::close(file_);
}

std::vector<std::string> config_differences(const TrainConfig& now, const TrainConfig& of_run) {
    constexpr const char* may_differ[] = {"data", "threads", "loader_threads", "steps",
                                          "keep", "kernel",  "on_nonfinite",   "nonfinite_cap"};
    std::vector<std::string> differences;
    for (const auto& key : config_keys()) {
        if (std::find(std::begin(may_differ), std::end(may_differ), key.name) != std::end(may_differ)) continue;
        const auto mine = key.toml(now), theirs = key.toml(of_run);
        if (mine == theirs) continue;
        differences.push_back(text(key.group.empty() ? key.name : key.option(), ": ", mine.empty() ? "unset" : mine,
                                   ", the run has ", theirs.empty() ? "unset" : theirs));
    }
    return differences;
}

TrainConfig config_of_run(const std::string& folder) {
    ConfigSources sources;
    sources.run = folder + "/config.toml";
    return resolve_config(sources);
}

void require_same_settings(const std::string& folder, const TrainConfig& config, const DataFacts& data) {
    std::error_code error;
    const auto path = folder + "/config.toml";
    if (!std::filesystem::exists(path, error)) {
        require(list_checkpoints(folder).empty(), ErrorKind::data, "[pretrain] --resume: ", path,
                ": is missing beside checkpoints; put it back, or start a run in another --out");
        return;
    }
    TrainConfig of_run = config_of_run(folder);
    complete_config(of_run, data);
    std::string list;
    for (const auto& difference : config_differences(config, of_run)) list += (list.empty() ? "" : "; ") + difference;
    require(list.empty(), ErrorKind::configuration, "[pretrain] --resume: ", path, ": the settings differ: ", list,
            "; leave them out to take the run's, or start a run in another --out");
}

void require_same_data(const std::string& of_run, const std::string& source, const TrainConfig& config,
                       const std::string& hash) {
    std::string files;
    for (const auto& file : config.data) files += (files.empty() ? "" : ", ") + file;
    require(of_run.empty() || of_run == hash, ErrorKind::configuration, "[pretrain] --resume: the data of ", files,
            " are not those of the run: their SHA-256 is ", hash, ", ", source, " has ", of_run,
            "; name the run's own patch files, in the same order, with --data");
}

std::string recorded_fact(const std::string& folder, const std::string& key) {
    const auto path = folder + "/manifest.json";
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return {};
    const auto manifest = nlohmann::json::parse(read_file(path, 1 << 20), nullptr, false);
    if (!manifest.is_object() || !manifest.contains(key) || !manifest[key].is_string()) return {};
    return manifest[key].get<std::string>();
}

void write_if_changed(const std::string& path, const std::string& content) {
    std::error_code error;
    if (std::filesystem::is_regular_file(path, error) && read_file(path) == content) return;
    write_file(path, content);
}

}  // namespace cover::app
