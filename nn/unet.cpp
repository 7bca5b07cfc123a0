#include "nn/unet.h"

namespace cover {

UNet::UNet(ParameterSet& parameters, std::int64_t in_channels, const std::vector<std::int64_t>& channels) {
    require(channels.size() == 9, ErrorKind::configuration, "[network] nine channel counts are needed, got ",
            channels.size());
    down_.emplace_back(parameters, "backbone.inc", in_channels, channels[0]);
    for (std::size_t level = 1; level <= 4; ++level)
        down_.emplace_back(parameters, text("backbone.down", level, ".maxpool_conv.1"), channels[level - 1],
                           channels[level]);
    for (std::size_t level = 1; level <= 4; ++level)
        up_.emplace_back(parameters, text("backbone.up", level, ".conv"), channels[4 - level] + channels[3 + level],
                         channels[4 + level]);
}

std::vector<Var> UNet::operator()(Graph& graph, const ParameterSet& parameters, const Var& x, int levels) const {
    const Grid grid = graph.grid_of(x.shape());
    const bool fits = grid.h % 16 == 0 && grid.w % 16 == 0 && (grid.spatial_dims == 2 || grid.d % 16 == 0);
    require(fits, ErrorKind::configuration, "[network] the sides of an input must be multiples of 16, got ",
            x.shape().to_string(), "; choose another patch");
    std::vector<Var> skips{down_[0](graph, parameters, x)};
    for (std::size_t level = 1; level <= 4; ++level)
        skips.push_back(down_[level](graph, parameters, max_pool(graph, skips.back())));

    std::vector<Var> features{skips.back()};
    skips.pop_back();
    for (std::size_t level = 0; static_cast<int>(features.size()) < levels; ++level) {
        const Var joined = concat(graph, skips.back(), upsample(graph, features.back(), false));
        skips.pop_back();
        features.push_back(up_[level](graph, parameters, joined));
    }
    return features;
}

}  // namespace cover
