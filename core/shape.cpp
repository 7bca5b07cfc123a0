#include "core/shape.h"

#include "core/check.h"

namespace cover {

Shape::Shape(std::initializer_list<std::int64_t> sides) {
    for (const std::int64_t side : sides) append(side);
}

void Shape::append(std::int64_t side) {
    require(rank_ < max_rank, ErrorKind::internal, "[shape] a shape has at most ", max_rank, " axes");
    require(side >= 0, ErrorKind::internal, "[shape] a side cannot be negative, got ", side);
    sides_[static_cast<std::size_t>(rank_++)] = side;
}

std::int64_t Shape::count() const {
    std::int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
    return product;
}

std::string Shape::to_string() const {
    std::string out = "(";
    for (int axis = 0; axis < rank_; ++axis) out += text(axis ? ", " : "", (*this)[axis]);
    return out + (rank_ == 1 ? ",)" : ")");
}

bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int axis = 0; axis < a.rank_; ++axis)
        if (a[axis] != b[axis]) return false;
    return true;
}

}  // namespace cover
