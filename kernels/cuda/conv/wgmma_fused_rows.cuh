// What the row of rung 6 of the fused convolution runs, and which layers it takes.
#pragma once

#include "kernels/cuda/conv/wgmma_fused.cuh"
#include "kernels/cuda/conv/wgmma_fused_weight.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

inline constexpr std::int64_t fused_shared_memory = 227 * 1024;

// Stages beside the weights, as resident_stages; less, because the preparing warps need room.
template <class Tile>
int fused_stages(const ConvParams& p) {
    return resident_stages<Tile>(p, fused_shared_memory - FusedTile<Tile>::bytes);
}

// Calls use(Tile, stages) with the tile that serves p, if any; stages is 0 for tiles that stream their weights. A box
// of channels belongs to one part, and a piece of eight channels to one group.
template <class Use>
bool with_fused_tile(const FusedConvParams& p, const Use& use) {
    const ConvParams& conv = p.conv;
    if (!has_whole_units(conv.c_out, p.groups)) return false;
    for (const PendingParams& part : p.parts)
        if (part.channels > 0 && !has_whole_units(part.channels, part.groups)) return false;
    const auto fits = [&]<class Tile>(Tile) {
        return p.parts[0].channels % Tile::depth == 0 && p.parts[1].channels % Tile::depth == 0 &&
               conv.c_out % Tile::outputs == 0;
    };
    const auto stream = [&]<class Tile>(Tile) {
        static_assert(fused_streamed_bytes<Tile> <= fused_shared_memory);
        if (!fits(Tile{})) return false;
        use(Tile{}, 0);
        return true;
    };
    const auto keep = [&]<class Tile>(Tile) {
        const int stages = fused_stages<Tile>(conv);
        if (stages == 0 || !fits(Tile{})) return false;
        use(Tile{}, stages);
        return true;
    };
    return stream(WgmmaTile<128, 2, 6, 3>{}) || keep(ResidentTile<64, 64, 2>{}) || stream(WgmmaTile<64, 2, 8, 4>{}) ||
           keep(ResidentTile<64, 32, 2>{}) || keep(ResidentTile<32, 32, 4>{}) || keep(ResidentTile<32, 32, 4, false>{});
}

inline bool fits_wgmma_fused(const FusedConvParams& p, const DeviceFacts& facts) {
    return fits_wgmma_counts(p.conv, facts) && with_fused_tile(p, [](auto, int) {});
}

template <class Tile>
void launch_wgmma_fused(std::uint16_t* out, norm::Moments* moments, const WgmmaInput& input,
                        const std::uint16_t* packed, const float* bias, const ConvParams& p, int stages,
                        Stream& stream) {
    WgmmaShape s = wgmma_shape(p);
    const int output_groups = s.c_out / Tile::outputs, pixel_tiles = (s.pixel_blocks + Tile::blocks - 1) / Tile::blocks;
    const hopper::TensorMap first = part_map(input.parts[0], p, Tile::depth, 10),
                            second = part_map(input.parts[1], p, Tile::depth, 10),
                            weight = hopper::tensor_map<2>(packed, {p.c_in, p.taps() * p.c_out},
                                                           {Tile::depth, Tile::outputs});
    if constexpr (requires { Tile::resident; }) {
        s.tiles = pixel_tiles;
        const int most = hopper::multiprocessors() / output_groups;
        const int blocks = (s.tiles < most ? s.tiles : most < 1 ? 1 : most) * output_groups;
        const std::int64_t bytes = static_cast<std::int64_t>(Tile::fixed_bytes) + FusedTile<Tile>::bytes +
                                   resident_weight_bytes<Tile>(p) + std::int64_t{stages} * Tile::stage_bytes;
        launch(stream, "fused_conv wgmma_fused_resident", dim3(static_cast<unsigned>(blocks)), fused_threads,
               static_cast<std::size_t>(bytes), wgmma_fused_resident<Tile>, first, second, weight, input, out, bias,
               moments, s, stages);
    } else {
        const int most = hopper::multiprocessors();
        set_tiles(s, pixel_tiles, output_groups, most);
        launch(stream, "fused_conv wgmma_fused_streamed", dim3(static_cast<unsigned>(s.tiles < most ? s.tiles : most)),
               fused_threads, static_cast<std::size_t>(fused_streamed_bytes<Tile>), wgmma_fused_streamed<Tile>, first,
               second, weight, input, out, bias, moments, s);
    }
}

inline void run_wgmma_fused(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                            const FusedConvParams& p, Stream& stream) {
    const WgmmaInput parts = wgmma_input(input, p);
    const WgmmaShape s = wgmma_shape(p.conv);
    const bool wanted = p.groups > 0;
    Workspace<std::uint16_t> packed(p.conv.weight_count(), stream);
    Workspace<norm::Moments> moments(wanted ? s.pixel_blocks * (p.conv.c_out / unit_channels) : 0, stream);
    launch_wgmma_pack(packed.data(), weight.as<float>(), false, p.conv, stream);
    with_fused_tile(p, [&]<class Tile>(Tile, int stages) {
        launch_wgmma_fused<Tile>(static_cast<std::uint16_t*>(y.data), wanted ? moments.data() : nullptr, parts,
                                 packed.data(), bias.as<float>(), p.conv, stages, stream);
    });
    if (wanted)
        launch_tile_statistics(mean, rstd, moments.data(), p.statistics(),
                               TileCut::of(s, static_cast<int>(p.conv.c_out), 8, 8), stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
