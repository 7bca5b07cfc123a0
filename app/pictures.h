// Samples of patch files as tensors.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "cover/views.h"
#include "data/patches.h"

namespace cover::app {

// (B,D,H,W,C) float32, in the order of `samples`.
Tensor read_images(const PatchFile& patches, const std::vector<std::int64_t>& samples);

std::vector<SampleKey> keys_of(const std::vector<std::int64_t>& samples, std::uint32_t epoch);

}  // namespace cover::app
