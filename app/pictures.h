// Samples of patch files as tensors, and as the pictures of a report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/report.h"
#include "cover/model.h"
#include "cover/views.h"
#include "data/patches.h"

namespace cover::app {

// (B,D,H,W,C) float32, in the order of `samples`.
Tensor read_images(const PatchFile& patches, const std::vector<std::int64_t>& samples);

std::vector<SampleKey> keys_of(const std::vector<std::int64_t>& samples, std::uint32_t epoch);

// Two samples of `from`, evenly spaced, as training would show them to the model, and what it predicts. `what` opens
// the caption.
std::vector<ViewPair> picture_pairs(const Model& model, const TrainConfig& config, const PatchFile& patches,
                                    const std::vector<std::int64_t>& from, const std::string& what, Stream& stream);

}  // namespace cover::app
