// The samples that a training run keeps out, and their losses.
#pragma once

#include <cstdint>
#include <vector>

#include "cover/config.h"
#include "cover/step.h"
#include "data/patches.h"

namespace cover::app {

struct Split {
    std::vector<std::int64_t> training, heldout;
};

// By config.holdout and config.seed. Whole subjects are held out: two images of one person never stand on both sides.
// Throws Error(configuration) when nothing is left to train on.
Split split_by_subject(const PatchFile& patches, const TrainConfig& config);

// Means over the first 256 held-out samples, each with the same views every time; losses are those of `--loss both`,
// and all zero where no pixel of any view is valid.
StepResult heldout_losses(const Model& model, const TrainConfig& config, const PatchFile& patches,
                          std::vector<std::int64_t> samples, Stream& stream);

}  // namespace cover::app
