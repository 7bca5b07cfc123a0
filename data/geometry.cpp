#include "data/geometry.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace cover {

namespace {

// The 3 x 3 part of a.
double determinant(const Affine& a) {
    return a(0, 0) * (a(1, 1) * a(2, 2) - a(1, 2) * a(2, 1)) - a(0, 1) * (a(1, 0) * a(2, 2) - a(1, 2) * a(2, 0)) +
           a(0, 2) * (a(1, 0) * a(2, 1) - a(1, 1) * a(2, 0));
}

// Inverse of the 3 x 3 part, times the determinant.
double adjugate(const Affine& a, int row, int column) {
    const int r0 = (column + 1) % 3, r1 = (column + 2) % 3, c0 = (row + 1) % 3, c1 = (row + 2) % 3;
    return a(r0, c0) * a(r1, c1) - a(r0, c1) * a(r1, c0);
}

// Columns of length 1, without the shift. What is left is flat when its determinant is near 0.
Affine unit_columns(const Affine& a) {
    const Point length = a.spacing();
    Affine out;
    for (int column = 0; column < 3; ++column)
        for (int row = 0; row < 3; ++row) out(row, column) = a(row, column) / length[static_cast<std::size_t>(column)];
    return out;
}

}  // namespace

Affine Affine::scale_shift(const Point& scale, const Point& shift) {
    Affine a;
    for (int axis = 0; axis < 3; ++axis) {
        a(axis, axis) = scale[static_cast<std::size_t>(axis)];
        a(axis, 3) = shift[static_cast<std::size_t>(axis)];
    }
    return a;
}

Point Affine::operator()(const Point& p) const {
    Point out;
    for (int row = 0; row < 3; ++row)
        out[static_cast<std::size_t>(row)] =
            (*this)(row, 0) * p[0] + (*this)(row, 1) * p[1] + (*this)(row, 2) * p[2] + (*this)(row, 3);
    return out;
}

Point Affine::spacing() const {
    Point out;
    for (int column = 0; column < 3; ++column)
        out[static_cast<std::size_t>(column)] = std::hypot((*this)(0, column), (*this)(1, column), (*this)(2, column));
    return out;
}

bool Affine::valid() const {
    for (const double x : m)
        if (!(std::abs(x) < 1e12)) return false;
    if (m[12] != 0 || m[13] != 0 || m[14] != 0 || m[15] != 1) return false;
    for (const double length : spacing())
        if (!(length > 1e-9)) return false;
    return std::abs(determinant(unit_columns(*this))) > 1e-6;
}

Affine operator*(const Affine& a, const Affine& b) {
    Affine out;
    for (int row = 0; row < 4; ++row)
        for (int column = 0; column < 4; ++column) {
            double sum = 0;
            for (int k = 0; k < 4; ++k) sum += a(row, k) * b(k, column);
            out(row, column) = sum;
        }
    return out;
}

std::optional<Affine> inverse(const Affine& a) {
    if (!a.valid()) return std::nullopt;
    const double scale = determinant(a);
    Affine out;
    for (int row = 0; row < 3; ++row)
        for (int column = 0; column < 3; ++column) out(row, column) = adjugate(a, row, column) / scale;
    for (int row = 0; row < 3; ++row) {
        double shift = 0;
        for (int column = 0; column < 3; ++column) shift -= out(row, column) * a(column, 3);
        out(row, 3) = shift;
    }
    for (const double x : out.m)
        if (!std::isfinite(x)) return std::nullopt;
    return out;
}

AxisOrder closest_ras(const Affine& to_world) {
    require(to_world.valid(), ErrorKind::internal, "[geometry] an affine without an inverse has no orientation");
    // Newton's iteration to the orthogonal factor of the polar decomposition: R <- (R + R^-T) / 2.
    Affine r = unit_columns(to_world);
    for (int round = 0; round < 60; ++round) {
        const double scale = determinant(r);
        Affine next;
        double change = 0;
        for (int row = 0; row < 3; ++row)
            for (int column = 0; column < 3; ++column) {
                next(row, column) = 0.5 * (r(row, column) + adjugate(r, column, row) / scale);
                change = std::max(change, std::abs(next(row, column) - r(row, column)));
            }
        r = next;
        if (change < 1e-14) break;
    }
    AxisOrder best;
    double best_sum = -1;
    std::array<int, 3> from{0, 1, 2};
    do {
        double sum = 0;
        for (int axis = 0; axis < 3; ++axis) sum += std::abs(r(axis, from[static_cast<std::size_t>(axis)]));
        // Ties, such as a turn by exactly 45 degrees, go to the order that keeps more axes in place.
        if (sum > best_sum + 1e-9) {
            best_sum = sum;
            best.from = from;
        }
    } while (std::next_permutation(from.begin(), from.end()));
    for (std::size_t axis = 0; axis < 3; ++axis) best.reversed[axis] = r(static_cast<int>(axis), best.from[axis]) < 0;
    return best;
}

Affine index_map(const AxisOrder& order, const std::array<std::int64_t, 3>& source_shape) {
    Affine out;
    for (int axis = 0; axis < 3; ++axis) out(axis, axis) = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const int from = order.from[axis];
        out(from, static_cast<int>(axis)) = order.reversed[axis] ? -1 : 1;
        if (order.reversed[axis]) out(from, 3) = static_cast<double>(source_shape[static_cast<std::size_t>(from)] - 1);
    }
    return out;
}

Affine stored_to_source(const SampleGeometry& geometry, const std::string& where) {
    const std::optional<Affine> back = inverse(geometry.source_affine);
    require(back.has_value(), ErrorKind::data, "[geometry] ", where,
            ": the source's affine has no inverse, so that nothing can be laid back; prepare the file again");
    return *back * geometry.affine;
}

Affine source_to_stored(const SampleGeometry& geometry, const std::string& where) {
    const std::optional<Affine> back = inverse(geometry.affine);
    require(back.has_value(), ErrorKind::data, "[geometry] ", where,
            ": its affine has no inverse, so that nothing can be laid back; prepare the file again");
    return *back * geometry.source_affine;
}

}  // namespace cover
