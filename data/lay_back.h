// From a stored image's grid back onto the grid of the file that it came from.
#pragma once

#include <cstdint>
#include <vector>

#include "core/parallel.h"
#include "core/shape.h"
#include "data/geometry.h"

namespace cover {

// in: (D, H, W, C) on the grid `stored`; result (D, H, W, C) on `target`, linear in each axis. to_stored maps an index
// point (d, h, w) of the target to one of the stored grid. Up to three quarters of a pixel beyond the outermost stored
// centres the edge's value holds; further out, where `prepare` cut the source off, the result is 0. Threads change no
// bit.
std::vector<float> lay_back(const float* in, const Grid& stored, int channels, const Grid& target,
                            const Affine& to_stored, ThreadPool& pool);

// The same for a label map (D, H, W): the label of the pixel in which the point lies.
std::vector<std::uint8_t> lay_back_labels(const std::vector<std::uint8_t>& in, const Grid& stored, const Grid& target,
                                          const Affine& to_stored, ThreadPool& pool);

// A NIfTI file's index (i, j, k), first axis fastest, <-> the index (k, j, i) of its values as an array (D, H, W).
Affine reverse_axes();

}  // namespace cover
