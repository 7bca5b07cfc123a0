// A trained network on images of any size, and its results on the grid of the file that an image came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/machine.h"
#include "cover/model.h"
#include "cover/tiles.h"
#include "data/preprocessing.h"

namespace cover::app {

class AppliedNetwork {
public:
    // weights: a file or a run folder. pyramid: displacements are wanted, which a backbone alone cannot give. dtype: of
    // features inside; what comes out is float32. Throws Error(data) for a file that does not hold what is asked for.
    AppliedNetwork(const std::string& weights, bool pyramid, DType dtype, Stream& stream);

    int spatial_dims() const { return model_.config().spatial_dims; }
    int in_channels() const { return static_cast<int>(model_.config().in_channels); }
    int feature_channels() const { return static_cast<int>(model_.config().channels.back()); }
    bool knows_preprocessing() const { return knows_preprocessing_; }
    const Preprocessing& preprocessing() const { return preprocessing_; }

    // Of the training run's patch unless set; 0 where the weights do not say.
    const TileSides& tile() const { return tile_; }
    void set_tile(const TileSides& tile) { tile_ = tile; }

    // Of a preprocessed sample: features at full resolution (1,D,H,W,C).
    Tensor features(const Sample& sample) const;
    // The field (1,D,H,W,nd) on the grid of `fixed`, in its pixels: fixed(p) shows what moving(p + field(p)) shows.
    // Both have the same size.
    Tensor displacement(const Sample& moving, const Sample& fixed) const;

    // What run_tiled takes besides its result, in bytes: an upper estimate for a forward pass over one tile.
    std::int64_t tile_bytes(const Grid& grid, int views) const;

private:
    AppliedNetwork(const std::string& path, const TensorFile& file, bool pyramid, DType dtype, Stream& stream);

    Model model_;
    Stream& stream_;
    Preprocessing preprocessing_;
    bool knows_preprocessing_;
    TileSides tile_{};
};

// The file's grid as its values lie in memory, and where its elements lie on the stored grid: index (d, h, w) of the
// memory -> stored index.
struct SourceGrid {
    Grid grid;
    Affine to_index;   // memory index -> the file's own index: (0, y, x), or (i, j, k) of a NIfTI file
    Affine to_stored;  // memory index -> stored index
};
SourceGrid source_grid(const Sample& sample);

// field: as displacement() gives it, (D,H,W,nd). Result on the grid of the file of `fixed`, components last. In 2D the
// vector in pixels (down, right) that leads from a pixel of the fixed file to the one of the moving file; in 3D the
// vector in mm along the world's axes (RAS+) from the voxel's place in the fixed file to that in the moving file.
std::vector<float> source_displacement(const Tensor& field, const Sample& moving, const Sample& fixed,
                                       ThreadPool& pool);

}  // namespace cover::app
