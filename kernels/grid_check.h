// The check that every op on a grid shares.
#pragma once

#include "core/check.h"
#include "core/shape.h"

namespace cover {

// Throws Error(internal) unless n and the sides are positive, spatial_dims is 2 or 3, and D = 1 in 2D.
inline void require_grid(const char* op, std::int64_t n, const Grid& grid) {
    require(n >= 1, ErrorKind::internal, "[", op, "] the batch must be positive, got ", n);
    require(grid.spatial_dims == 2 || grid.spatial_dims == 3, ErrorKind::internal, "[", op,
            "] spatial_dims must be 2 or 3, got ", grid.spatial_dims);
    require(grid.d >= 1 && grid.h >= 1 && grid.w >= 1, ErrorKind::internal, "[", op,
            "] every side must be positive, got ", grid.d, " x ", grid.h, " x ", grid.w);
    require(grid.spatial_dims == 3 || grid.d == 1, ErrorKind::internal, "[", op, "] a 2D grid has depth 1, got ",
            grid.d);
}

inline void require_positive(const char* op, const char* name, std::int64_t value) {
    require(value >= 1, ErrorKind::internal, "[", op, "] ", name, " must be positive, got ", value);
}

}  // namespace cover
