// A network on images of any size: padded to sides that it takes, and in overlapping tiles where an image is larger
// than a tile, so that memory is bounded by the tile.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/tensor.h"

namespace cover {

// (1,D,H,W,Cin) with pooled sides that are multiples of 16 -> (1,D,H,W,Cout), D, H and W kept.
using ImageFunction = std::function<Tensor(const Tensor&)>;

// Sides (D,H,W) of a tile. 0: as large as the image. Others are multiples of 16; in 2D D is not looked at.
using TileSides = std::array<std::int64_t, 3>;

// How one axis is cut. Tiles start at multiples of 16, where the poolings of the whole image start too, and overlap by
// half their side. Each has a weight per pixel: 0 at its cut edges for a quarter of the overlap, then a smooth rise
// over half of it; the weights of all tiles sum to 1 at every pixel. So a pixel further from every cut edge than a
// quarter of the overlap comes out as in the whole image when nothing reaches further than that; group norms do: each
// tile has its own mean and variance (docs/apply.md has measured figures).
struct AxisTiles {
    std::int64_t padded = 16;                  // the side as a multiple of 16
    std::int64_t side = 16;                    // of every tile
    std::vector<std::int64_t> starts;          // ascending
    std::vector<std::vector<double>> weights;  // [tile][pixel of the tile]
};

// A tile of 16 cannot overlap in steps of 16: it counts as 32.
AxisTiles cut_axis(std::int64_t length, std::int64_t tile_side);

// image (1,D,H,W,Cin), any sides. Padded at the end of each axis by reflection (the edge pixel is not repeated; a
// single pixel is), cut back in the result (1,D,H,W,Cout). A single tile gives the bits of a call on the padded image.
// Memory beyond the function's own: the padded image, one tile of input and output, and the result.
Tensor run_tiled(const Tensor& image, int spatial_dims, const TileSides& tile, const ImageFunction& function);

// Tiles that run_tiled will call its function on.
std::int64_t count_tiles(const std::array<std::int64_t, 3>& sides, int spatial_dims, const TileSides& tile);

}  // namespace cover
