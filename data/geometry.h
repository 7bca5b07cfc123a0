// Where a stored image lies: 4 x 4 matrices between indices of arrays and millimetres of the patient, and the way back
// from a stored image to the grid of the file that it came from.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/shape.h"

namespace cover {

using Point = std::array<double, 3>;

// Row-major, the last row 0 0 0 1. Index points are in the array's own order of axes: (i, j, k) of a NIfTI file,
// (d, h, w) of a stored image. The centre of an element has whole indices.
struct Affine {
    std::array<double, 16> m{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

    static Affine scale_shift(const Point& scale, const Point& shift);

    double operator()(int row, int column) const { return m[static_cast<std::size_t>(4 * row + column)]; }
    double& operator()(int row, int column) { return m[static_cast<std::size_t>(4 * row + column)]; }
    Point operator()(const Point& p) const;
    // Lengths of the three columns: mm per index step of an affine to world mm.
    Point spacing() const;
    // All finite, the last row 0 0 0 1, and not so flat that it has no usable inverse.
    bool valid() const;
    friend bool operator==(const Affine&, const Affine&) = default;
};

// (a * b)(p) = a(b(p)).
Affine operator*(const Affine& a, const Affine& b);
// Nothing when there is none.
std::optional<Affine> inverse(const Affine& a);

// How one array becomes another by exchanging and reversing its axes: axis a of the result runs along axis `from[a]` of
// the source, backwards where `reversed[a]`.
struct AxisOrder {
    std::array<int, 3> from{0, 1, 2};
    std::array<bool, 3> reversed{false, false, false};
    friend bool operator==(const AxisOrder&, const AxisOrder&) = default;
};

// The order that makes the axes run right, anterior, superior as nearly as the affine (source index -> world mm, RAS+)
// allows: of all 48 the one whose axes lie closest to those of the rotation nearest to the affine.
AxisOrder closest_ras(const Affine& to_world);

// Index of the reordered array -> index of the source of that shape.
Affine index_map(const AxisOrder& order, const std::array<std::int64_t, 3>& source_shape);

// What /geometry of a patch file says about one sample.
struct SampleGeometry {
    Affine affine;         // stored index (d, h, w) -> world mm (RAS+); in 2D -> source pixel (0, y, x)
    Affine source_affine;  // source index -> world mm; in 2D the identity
    // (nx, ny, nz) of a NIfTI file, (D, H, W) of an HDF5 file, (1, height, width) of a picture.
    std::array<std::int64_t, 3> source_shape{1, 1, 1};
};

// Stored index -> source index, and back. Throws Error(data) when a matrix has no inverse; `where` stands in the
// sentence.
Affine stored_to_source(const SampleGeometry& geometry, const std::string& where);
Affine source_to_stored(const SampleGeometry& geometry, const std::string& where);

}  // namespace cover
