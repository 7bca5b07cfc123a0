#include "app/applied_network.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "app/weights.h"
#include "autograd/ops.h"
#include "core/check.h"
#include "data/lay_back.h"

namespace cover::app {
namespace {

Tensor tensor_of(const Sample& sample) {
    const Grid& g = sample.grid;
    Tensor image = Tensor::empty({1, g.d, g.h, g.w, sample.channels});
    std::copy(sample.values.begin(), sample.values.end(), image.data<float>());
    return image;
}

// (1,D,H,W,Ca), (1,D,H,W,Cb) -> (1,D,H,W,Ca+Cb), so that one cut into tiles serves both.
Tensor joined(const Sample& a, const Sample& b) {
    const Grid& g = a.grid;
    Tensor both = Tensor::empty({1, g.d, g.h, g.w, a.channels + b.channels});
    float* to = both.data<float>();
    for (std::int64_t p = 0; p < g.pixels(); ++p) {
        to = std::copy_n(a.values.data() + p * a.channels, a.channels, to);
        to = std::copy_n(b.values.data() + p * b.channels, b.channels, to);
    }
    return both;
}

// (1,D,H,W,2C) -> (2,D,H,W,C), the first C channels first.
Tensor views_of(const Tensor& both) {
    const std::int64_t channels = both.side(4) / 2, pixels = both.count() / both.side(4);
    Tensor views = Tensor::empty({2, both.side(1), both.side(2), both.side(3), channels});
    const float* from = both.data<float>();
    float* to = views.data<float>();
    for (std::int64_t p = 0; p < pixels; ++p)
        for (std::int64_t v = 0; v < 2; ++v)
            std::copy_n(from + (2 * p + v) * channels, channels, to + (v * pixels + p) * channels);
    return views;
}

TileSides trained_patch(const Metadata& metadata, const std::string& path) {
    if (!metadata.contains("patch")) return {};
    return config_from_metadata(metadata, path).patch;
}

}  // namespace

AppliedNetwork::AppliedNetwork(const std::string& weights, bool pyramid, DType dtype, Stream& stream)
    : AppliedNetwork(weights_path(weights), read_safetensors(weights_path(weights)), pyramid, dtype, stream) {}

AppliedNetwork::AppliedNetwork(const std::string& path, const TensorFile& file, bool pyramid, DType dtype,
                               Stream& stream)
    : model_([&] {
          const ModelConfig config = from_metadata(file.metadata, path);
          check_views(file.metadata, path);
          check_size(file, config, path);
          return Model(config, dtype, stream.device);
      }()),
      stream_(stream) {
    const bool backbone = is_backbone_only(file);
    require(!pyramid || !backbone, ErrorKind::data, "[apply] ", path,
            ": holds the backbone alone and cannot predict displacements; export the run with --part all");
    model_.load(file.tensors, path, backbone);
    const auto found = file.metadata.find("preprocessing");
    knows_preprocessing_ = found != file.metadata.end();
    preprocessing_ =
        Preprocessing::parse(knows_preprocessing_ ? found->second : std::string(), model_.config().spatial_dims, path);
    tile_ = trained_patch(file.metadata, path);
}

Tensor AppliedNetwork::features(const Sample& sample) const {
    return run_tiled(tensor_of(sample), spatial_dims(), tile_, [this](const Tensor& tile) {
        Graph graph(stream_, spatial_dims(), Graph::Retention::nothing);
        const Var image = graph.constant(tile.to(stream_.device));
        return graph.value(cast(graph, model_.features(graph, image).back(), DType::float32)).to(Device::cpu);
    });
}

Tensor AppliedNetwork::displacement(const Sample& moving, const Sample& fixed) const {
    return run_tiled(joined(moving, fixed), spatial_dims(), tile_, [this](const Tensor& tile) {
        Graph graph(stream_, spatial_dims(), Graph::Retention::nothing);
        return model_.predict(graph, graph.constant(views_of(tile).to(stream_.device))).field.value.to(Device::cpu);
    });
}

std::int64_t AppliedNetwork::tile_bytes(const Grid& grid, int views) const {
    const std::int64_t sides[3] = {grid.d, grid.h, grid.w};
    std::int64_t pixels = views;
    for (std::size_t a = grid.spatial_dims == 2 ? 1 : 0; a < 3; ++a) pixels *= cut_axis(sides[a], tile_[a]).side;
    // At full resolution: the skip, the up-sampled map below it, both joined, and what a DoubleConv holds; the coarser
    // levels together add less than another half in 2D.
    const auto& c = model_.config().channels;
    const std::int64_t widest = 2 * (c[0] + c[7]) + 3 * std::max(c[0], c[8]);
    return pixels * widest * 3 / 2 * static_cast<std::int64_t>(sizeof(float));
}

SourceGrid source_grid(const Sample& sample) {
    SourceGrid source;
    const auto& shape = sample.source_shape;
    if (sample.grid.spatial_dims == 2) {
        source.grid = {2, 1, shape[1], shape[2]};
    } else {
        source.grid = {3, shape[2], shape[1], shape[0]};
        source.to_index = reverse_axes();
    }
    const auto back = inverse(sample.to_source);
    require(back.has_value(), ErrorKind::data, "[apply] ", sample.where,
            ": its affine has no inverse, so that nothing can be laid back onto it");
    source.to_stored = *back * source.to_index;
    return source;
}

std::vector<float> source_displacement(const Tensor& field, const Sample& moving, const Sample& fixed,
                                       ThreadPool& pool) {
    const int dims = fixed.grid.spatial_dims;
    const SourceGrid source = source_grid(fixed);
    const Grid& grid = source.grid;
    std::vector<float> out = lay_back(field.data<float>(), fixed.grid, dims, grid, source.to_stored, pool);
    // Of a stored index to where it lies: pixels of the picture, mm of the volume.
    const Affine moving_place = dims == 2 ? moving.to_source : moving.source_affine * moving.to_source;
    const Affine fixed_place = dims == 2 ? source.to_index : fixed.source_affine * source.to_index;
    pool.run(grid.d * grid.h, [&](std::int64_t row) {
        for (std::int64_t w = 0; w < grid.w; ++w) {
            const Point pixel{static_cast<double>(row / grid.h), static_cast<double>(row % grid.h),
                              static_cast<double>(w)};
            float* vector = out.data() + (row * grid.w + w) * dims;
            Point stored = source.to_stored(pixel);
            for (int a = 0; a < dims; ++a) stored[static_cast<std::size_t>(3 - dims + a)] += vector[a];
            const Point from = fixed_place(pixel), to = moving_place(stored);
            for (int a = 0; a < dims; ++a) {
                const auto axis = static_cast<std::size_t>(3 - dims + a);
                vector[a] = static_cast<float>(to[axis] - from[axis]);
            }
        }
    });
    return out;
}

}  // namespace cover::app
