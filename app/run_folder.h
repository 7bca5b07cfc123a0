// Who may write to a run folder, and whether a run that is to go on is the one that stands there.
#pragma once

#include <string>
#include <vector>

#include "cover/config.h"

namespace cover::app {

// Throws Error(configuration) when the folder holds a run.
void refuse_used_folder(const std::string& folder);

// Held for the life of the object, and no longer than that of the process. Throws Error(configuration) when another
// process holds it. Does nothing on a file system that knows no locks.
class FolderLock {
public:
    explicit FolderLock(const std::string& folder);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

private:
    int file_ = -1;
};

// "--lr: 0.001, the run has 0.0001" for each setting in which the two completed configurations differ. Left out: what a
// run may go on with (threads, loader_threads, steps, keep, on_nonfinite, nonfinite_cap), the paths of data files,
// whose contents count, and kernels, which have a check of their own.
std::vector<std::string> config_differences(const TrainConfig& now, const TrainConfig& of_run);

// Settings of the run that stands in `folder`, as its config.toml has them. Throws as resolve_config() does.
TrainConfig config_of_run(const std::string& folder);

// What a run must share with the process that goes on with it. `config`: completed. Throw Error(configuration) that
// names each difference; Error(data) when checkpoints stand there without a config.toml.
void require_same_settings(const std::string& folder, const TrainConfig& config, const DataFacts& data);
// `of_run`: the hash that `source` has; empty: it has none. `hash`: of the contents of config.data.
void require_same_data(const std::string& of_run, const std::string& source, const TrainConfig& config,
                       const std::string& hash);

// The entry `key` of RUN/manifest.json; empty when there is no such file or entry.
std::string recorded_fact(const std::string& folder, const std::string& key);

// Writes the file unless it has that content already. Throws Error(io).
void write_if_changed(const std::string& path, const std::string& content);

}  // namespace cover::app
