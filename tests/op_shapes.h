// Shapes for the op tests, taken from tile edges: sides and channels just below, at and just above the widths that
// kernels work in (8 and 16 lanes, tiles of 4 to 8 pixels), 1 and primes.
#pragma once

#include <vector>

#include "core/shape.h"

namespace cover::test {

inline std::vector<Grid> grids_2d() {
    return {{2, 1, 1, 1}, {2, 1, 1, 2}, {2, 1, 2, 3},  {2, 1, 3, 5},   {2, 1, 5, 6},
            {2, 1, 6, 7}, {2, 1, 7, 8}, {2, 1, 8, 13}, {2, 1, 13, 17}, {2, 1, 17, 1}};
}

inline std::vector<Grid> grids_3d() {
    return {{3, 1, 1, 1}, {3, 1, 2, 3}, {3, 2, 3, 5},  {3, 3, 5, 6},
            {3, 5, 6, 7}, {3, 2, 8, 8}, {3, 3, 13, 2}, {3, 2, 1, 17}};
}

inline std::vector<Grid> grids() {
    std::vector<Grid> out = grids_2d();
    for (const Grid& grid : grids_3d()) out.push_back(grid);
    return out;
}

// With even sides where pooling halves them.
inline std::vector<Grid> even_grids() {
    return {{2, 1, 2, 2}, {2, 1, 2, 6}, {2, 1, 6, 8}, {2, 1, 14, 16}, {2, 1, 18, 34},
            {3, 2, 2, 2}, {3, 2, 4, 6}, {3, 6, 2, 8}, {3, 4, 14, 16}};
}

}  // namespace cover::test
