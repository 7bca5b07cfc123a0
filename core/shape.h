// Shapes are small arrays of 64-bit sides. Activations are (N, D, H, W, C), channels last; 2D is D = 1.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace cover {

class Shape {
public:
    static constexpr int max_rank = 6;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> sides);

    int rank() const { return rank_; }
    std::int64_t operator[](int axis) const { return sides_[static_cast<std::size_t>(axis)]; }
    std::int64_t& operator[](int axis) { return sides_[static_cast<std::size_t>(axis)]; }
    void append(std::int64_t side);
    // Product of all sides; 1 for rank 0.
    std::int64_t count() const;
    // "(2, 1, 64, 64, 8)"
    std::string to_string() const;

    friend bool operator==(const Shape& a, const Shape& b);

private:
    std::array<std::int64_t, max_rank> sides_{};
    int rank_ = 0;
};

// The spatial part of an activation. In 2D d is 1 and spatial_dims is 2; a 3D map may have d = 1 as well, therefore
// spatial_dims is kept: it decides the depth of kernels and windows.
struct Grid {
    int spatial_dims = 2;
    std::int64_t d = 1, h = 1, w = 1;

    constexpr std::int64_t pixels() const { return d * h * w; }
    friend bool operator==(const Grid&, const Grid&) = default;
};

}  // namespace cover
