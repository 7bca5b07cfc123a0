// Weights files: what their metadata says beyond the architecture, and a model read from one.
#pragma once

#include <string>

#include "cover/config.h"
#include "cover/model.h"
#include "nn/safetensors.h"

namespace cover::app {

// Of a training run: architecture, warp, patch, degree and its ranges, and what `prepare` did to the images. No time,
// path, host or thread count: equal runs are equal files.
Metadata weights_metadata(const TrainConfig& config, const std::string& preprocessing);

// Network and views as the metadata describes them, `dims` and `in_channels` included; the rest at its defaults. Throws
// Error(data) naming file and entry where one is missing or malformed.
TrainConfig config_from_metadata(const Metadata& metadata, const std::string& source);

// Whether what is there of degree, ranges and patch can have been trained with: Error(data) naming the entry if not.
// Weights that came from elsewhere have none of them.
void check_views(const Metadata& metadata, const std::string& source);

// True when the file has the backbone alone.
bool is_backbone_only(const TensorFile& file);

// Before memory is taken for a network: whether `file` can hold the one that its metadata promise. Error(data) if not.
void check_size(const TensorFile& file, const ModelConfig& config, const std::string& source);

// The weights file of a run folder, or the path itself where it is a file. Throws Error(io) when there is none.
std::string weights_path(const std::string& run_or_file);

}  // namespace cover::app
