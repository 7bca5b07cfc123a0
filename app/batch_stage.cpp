#include "app/batch_stage.h"

#include <chrono>
#include <utility>

namespace cover::app {

BatchStage::BatchStage(std::function<Batch()> source, Device device, const Shape& images) : source_(std::move(source)) {
    if (device == Device::cpu) return;
    ring_ = std::make_unique<UploadRing>(device, images);
    look_ahead();
}

void BatchStage::look_ahead() {
    ahead_ = std::async(std::launch::async, [this] {
        StagedBatch staged;
        staged.batch = source_();
        staged.images = ring_->begin(staged.batch.images);
        return staged;
    });
}

StagedBatch BatchStage::next() {
    StagedBatch staged;
    if (!ring_) {
        staged.batch = source_();
        staged.images = staged.batch.images;
        return staged;
    }
    const auto start = std::chrono::steady_clock::now();
    staged = ahead_.get();
    staged.batch.waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ring_->await(staged.images);
    look_ahead();
    return staged;
}

}  // namespace cover::app
