// The batches of a run where its steps want them: on the CPU those of the loader, on another device uploaded while the
// step before them runs.
#pragma once

#include <functional>
#include <future>
#include <memory>

#include "core/upload.h"
#include "data/loader.h"

namespace cover::app {

struct StagedBatch {
    Batch batch;    // on the host; `waited` is what the caller of next() waited
    Tensor images;  // the batch's, on the device of the run
};

class BatchStage {
public:
    // `source` gives the batches in order, on the CPU in next(), else from a thread of the stage. `images`: the shape
    // of a batch.
    BatchStage(std::function<Batch()> source, Device device, const Shape& images);

    // The batch of the next step, to be read by that step alone: when the next one is asked for, the device must be
    // done with it. What went wrong on its way is thrown here.
    StagedBatch next();

private:
    void look_ahead();

    std::function<Batch()> source_;
    std::unique_ptr<UploadRing> ring_;  // null on the CPU
    std::future<StagedBatch> ahead_;    // its destructor waits
};

}  // namespace cover::app
