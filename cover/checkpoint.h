// Everything that a training run needs to go on bit for bit. The weights are one file (Model::to_file), all the rest is
// another: the optimizer's moments, one tensor for each weight, and counters as metadata strings. Random numbers need
// no state: they are keyed by seed, epoch and sample.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cover/trainer.h"
#include "nn/safetensors.h"

namespace cover {

struct RunPosition {
    std::int64_t steps = 0;                 // Trainer::steps_done
    std::int64_t next_batch = 0;            // of the loader; another number than `steps` where batches were passed over
    std::int64_t skipped = 0, redrawn = 0;  // steps without a valid pixel, samples
    std::string kernels;                    // the selection that the run computed with
    Metadata extra;                         // of whoever else keeps something across a stop; any keys

    friend bool operator==(const RunPosition&, const RunPosition&) = default;
};

// state.safetensors: "optimizer.first.NAME" and, of Adam, "optimizer.second.NAME" in the layout of the weight NAME.
// position.steps and position.skipped are taken from the trainer. No time, path, host or thread count: equal runs have
// equal files.
TensorFile training_state(Trainer& trainer, RunPosition position);

// Puts weights, moments and counters back into a trainer of the same configuration, which may be a fresh one or one
// that has trained on. Everything is checked before anything changes. Throws Error(data), which begins with `source`,
// on a missing, unexpected, mis-shaped or non-numeric entry.
RunPosition restore_training(Trainer& trainer, const TensorFile& model, const TensorFile& state,
                             const std::string& source);

}  // namespace cover
