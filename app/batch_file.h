// The batch of a step that went wrong, in one safetensors file from which the step can be computed again: the images as
// they were stored (`batch.images`), their keys, the weights before the step, and the configuration.
#pragma once

#include <string>
#include <vector>

#include "cover/model.h"
#include "cover/views.h"

namespace cover::app {

struct StoredBatch {
    std::int64_t step = 0;             // of the record, from 1 as in log.jsonl
    Tensor images;                     // (B,D,H,W,C), float32
    std::vector<SampleKey> keys;       // one per image
    std::vector<NamedTensor> weights;  // under the names of a weights file
    std::string config;                // the text of the run's config.toml
    std::string found;                 // the sentence that was logged
};

// Written aside and renamed. Throws Error(io).
void write_batch(const std::string& path, const StoredBatch& batch);
// Throws Error(data) with a sentence where the file is not such a batch, Error(io) when it cannot be read.
StoredBatch read_batch(const std::string& path);

}  // namespace cover::app
