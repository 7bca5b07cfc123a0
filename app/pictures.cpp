#include "app/pictures.h"

namespace cover::app {

Tensor read_images(const PatchFile& patches, const std::vector<std::int64_t>& samples) {
    const Grid grid = patches.grid();
    const std::int64_t each = grid.pixels() * patches.channels();
    Tensor images = Tensor::empty(
        {static_cast<std::int64_t>(samples.size()), grid.d, grid.h, grid.w, patches.channels()}, DType::float32);
    for (std::size_t i = 0; i < samples.size(); ++i)
        patches.read_sample(samples[i], images.data<float>() + static_cast<std::int64_t>(i) * each);
    return images;
}

std::vector<SampleKey> keys_of(const std::vector<std::int64_t>& samples, std::uint32_t epoch) {
    std::vector<SampleKey> keys;
    for (const auto sample : samples) keys.push_back({epoch, static_cast<std::uint32_t>(sample)});
    return keys;
}

}  // namespace cover::app
