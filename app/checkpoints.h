// The checkpoints of a run folder: checkpoints/step-0001000/{model.safetensors, state.safetensors, manifest.json}. A
// checkpoint is complete or absent, whatever moment the process dies; manifest.json has the SHA-256 of both files, so
// that damage is found before anything is loaded.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cover/checkpoint.h"

namespace cover::app {

struct CheckpointPlace {
    std::int64_t step = 0;
    std::string folder;  // RUN/checkpoints/step-0001000
};

struct Checkpoint {
    CheckpointPlace place;
    TensorFile model, state;
    nlohmann::ordered_json manifest;
};

// What is saved, and what its manifest says beyond the files: "program", "data_hash", "kernels", ...
struct CheckpointContents {
    std::int64_t step = 0;
    std::vector<NamedTensor> model;
    Metadata model_metadata;
    TensorFile state;
    nlohmann::ordered_json facts;
};

CheckpointContents checkpoint_contents(Trainer& trainer, const RunPosition& position, const Metadata& model_metadata,
                                       const nlohmann::ordered_json& facts);

std::string checkpoint_folder(const std::string& run, std::int64_t step);
// By their names, in the order of their steps; empty when there are none.
std::vector<CheckpointPlace> list_checkpoints(const std::string& run);

// Throws Error(data) when a file is missing, is not of the size or SHA-256 that the manifest says, or is no safetensors
// file; Error(io) when one cannot be read.
Checkpoint read_checkpoint(const CheckpointPlace& place);

// The newest one that is whole. Each newer one that is not adds a sentence to `damaged` and its place to `damaged_at`;
// nothing is moved or removed.
struct NewestCheckpoint {
    std::optional<Checkpoint> checkpoint;
    std::vector<CheckpointPlace> damaged_at;
    std::vector<std::string> damaged;
};
NewestCheckpoint newest_checkpoint(const std::string& run);

// Out of the way, to checkpoints/damaged-step-0001000, and kept for whoever wants to look.
void set_aside(const CheckpointPlace& damaged);

// Bytes that save_checkpoint() needs at once, the copy at RUN/model.safetensors included.
std::uint64_t checkpoint_bytes(const CheckpointContents& contents);

// Writes the checkpoint, then RUN/model.safetensors. Throws Error(io); then no checkpoint of this step is there, or a
// whole one, and the older ones are as they were.
void save_checkpoint(const std::string& run, const CheckpointContents& contents);

// Makes RUN/model.safetensors the weights of the checkpoint where it is not: a process that was killed between the two
// left those of an earlier step. True when it was not. Throws Error(io).
bool put_weights_right(const std::string& run, const Checkpoint& checkpoint);

// Removes all but the newest `keep`. Throws Error(io).
void prune_checkpoints(const std::string& run, int keep);

// Removes what a killed process left half-written in the run folder. Throws Error(io).
void remove_leftovers(const std::string& run);

}  // namespace cover::app
