#include "app/pictures.h"

#include <algorithm>

#include "core/check.h"

namespace cover::app {
namespace {

constexpr std::size_t pictured_pairs = 2;
constexpr std::uint32_t picture_epoch = 0xfffffffe;  // no run comes this far: its draws are its own

// Pixels of one sample's middle slice: `channels` of its `stride` values from `first` on.
std::vector<float> slice_of(const Tensor& map, std::int64_t sample, int first, int channels) {
    const auto& s = map.shape();
    const std::int64_t pixels = s[2] * s[3], stride = s[4];
    const float* from = map.data<float>() + ((sample * s[1] + s[1] / 2) * pixels) * stride + first;
    std::vector<float> out;
    for (std::int64_t p = 0; p < pixels; ++p)
        for (int c = 0; c < channels; ++c) out.push_back(from[p * stride + c]);
    return out;
}

}  // namespace

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

std::vector<ViewPair> picture_pairs(const Model& model, const TrainConfig& config, const PatchFile& patches,
                                    const std::vector<std::int64_t>& from, const std::string& what, Stream& stream) {
    std::vector<ViewPair> pairs;
    const std::size_t count = std::min(pictured_pairs, from.size());
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t sample = from[i * from.size() / count];
        const Views views =
            make_views(read_images(patches, {sample}), keys_of({sample}, picture_epoch), config, stream);
        Graph graph(stream, config.dims, Graph::Retention::nothing);
        const Tensor predicted = model.predict(graph, graph.constant(views.images)).field.value;
        const int components = config.dims, first = components - 2;
        ViewPair pair;
        pair.caption = text(what, " ", patches.where(sample), config.dims == 3 ? ", the middle slice" : "");
        pair.height = static_cast<int>(views.images.shape()[2]);
        pair.width = static_cast<int>(views.images.shape()[3]);
        pair.moving = slice_of(views.images, 0, 0, 1);
        pair.fixed = slice_of(views.images, 1, 0, 1);
        pair.mask = slice_of(views.mask, 0, 0, 1);
        pair.truth = slice_of(views.field, 0, first, 2);
        pair.predicted = slice_of(predicted, 0, first, 2);
        pairs.push_back(std::move(pair));
    }
    return pairs;
}

}  // namespace cover::app
