// What a report shows of a trained network: scores, view pairs, the pyramid's levels and the features, as plain
// numbers.
//
// Of a volume three slices through the centre of the patch are shown. With its axes called D, H and W they are: H right
// and W up; D right and W up; D right and H up. A volume that `cover prepare` stored (right, anterior, superior) so
// shows its sagittal, coronal and axial plane, under these names.
#pragma once

#include <cstdint>
#include <vector>

#include "app/report.h"
#include "cover/model.h"
#include "data/patches.h"

namespace cover::app {

struct StudySource {
    const Model& model;
    const TrainConfig& config;  // completed, of the run
    const PatchFile& patches;
    std::vector<std::int64_t> samples;  // of the file, not empty
};

// Fills scores, by_size, reach, pairs, pyramid and features. Scores as `cover evaluate` computes them with its default
// seed, over at most its 64 pairs: fewer, at least four, for large patches. Pairs are views as training makes them,
// drawn apart from every step; two samples of a volume, three of images, evenly spaced. Throws Error(data) when a
// sample cannot be read or no pixel is valid.
void study(RunReport& report, const StudySource& source, Stream& stream);

}  // namespace cover::app
