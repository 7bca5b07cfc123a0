// Batches of whole samples, read ahead by threads. Order and contents are a pure function of seed and step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "data/patches.h"

namespace cover {

// Names a sample of a run: with the seed, it keys every random number that its view needs.
struct SampleId {
    std::uint32_t epoch = 0;
    std::int64_t index = 0;  // in the files' order, also where only a subset is drawn from
    friend bool operator==(const SampleId&, const SampleId&) = default;
};

// Random order without replacement, epoch after epoch; an epoch may begin in the middle of a batch. Philox, purpose
// `order`, keyed by (seed, epoch).
class SampleOrder {
public:
    // indices: what to draw from; not empty.
    SampleOrder(std::vector<std::int64_t> indices, std::uint64_t seed);

    // The sample at a position of the endless sequence; safe to call from many threads.
    SampleId at(std::int64_t position) const;
    // The permutation of one epoch.
    std::vector<std::int64_t> epoch(std::uint32_t number) const;

private:
    struct Cache;
    std::vector<std::int64_t> indices_;
    std::uint64_t seed_;
    std::shared_ptr<Cache> cache_;
};

struct LoaderOptions {
    std::int64_t batch = 1;
    std::uint64_t seed = 0;
    std::int64_t start_step = 0;        // the first step that next() returns, counted from 0
    int threads = 2;                    // 0: read in next()
    int ring = 3;                       // batches in memory ahead of the caller
    std::vector<std::int64_t> indices;  // samples to draw from; empty: all
};

struct Batch {
    std::int64_t step = 0;
    Tensor images;                  // (B, D, H, W, C) float32
    std::vector<SampleId> samples;  // B
    double waited = 0;              // seconds that next() took
};

class Loader {
public:
    // Throws Error(configuration) for options that make no sense.
    Loader(PatchFile patches, const LoaderOptions& options);
    ~Loader();
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    // The batch of the next step. What went wrong while one of its samples was read is thrown here, at that step.
    Batch next();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cover
