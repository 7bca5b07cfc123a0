// What `prepare` did to the images that a network was trained on, as its weights tell it, done to another image.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/prepare_sample.h"

namespace cover {

struct Preprocessing {
    // Size, spacing, aspect, normalisation and window; the default where nothing is known: values to [0, 1] by the
    // rule that `prepare` has, the size as it is.
    PrepareOptions options;
    std::optional<H5Store> store;  // the type whose steps the stored values had

    // The JSON that `prepare` writes; "" gives the default. spatial_dims: of the network. Throws Error(data) that
    // starts with `source`, a weights file, when it is not what `prepare` writes.
    static Preprocessing parse(const std::string& json, int spatial_dims, const std::string& source);
};

// A sample as it was read becomes what a loader would hand out had it gone through `prepare`, bit for bit. One thing
// differs: a volume that is larger than the stored size is not cut to it, so that every voxel gets a result. Returns
// how many values were NaN or infinite and became the minimum. Throws Error(data) for an image of one value.
std::int64_t preprocess(Sample& sample, const Preprocessing& how);

}  // namespace cover
