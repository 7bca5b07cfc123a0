#include "data/npy.h"

#include <bit>

#include "core/check.h"
#include "core/file.h"

namespace cover {

std::string npy_header(const std::vector<std::int64_t>& shape) {
    std::string sides;
    for (const std::int64_t side : shape) sides += text(sides.empty() ? "" : " ", side, ",");
    if (shape.size() > 1) sides.pop_back();  // (2, 3), but (2,)
    std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + sides + "), }";
    constexpr std::size_t before = 10, alignment = 64;  // magic, version, length
    dictionary.append(alignment - 1 - (before + dictionary.size()) % alignment, ' ');
    dictionary += '\n';
    require(dictionary.size() < 65536, ErrorKind::internal, "[npy] a shape of ", shape.size(), " axes");
    std::string out("\x93NUMPY\x01\x00", 8);
    out += static_cast<char>(dictionary.size() & 255u);
    out += static_cast<char>(dictionary.size() >> 8);
    return out + dictionary;
}

void write_npy(const std::string& path, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    static_assert(std::endian::native == std::endian::little);
    std::int64_t count = 1;
    for (const std::int64_t side : shape) count *= side;
    require(count == static_cast<std::int64_t>(values.size()), ErrorKind::internal, "[npy] ", path, ": ", values.size(),
            " values for a shape of ", count);
    AtomicFile file(path);
    file.write(npy_header(shape));
    file.write(values.data(), values.size() * sizeof(float));
    file.commit();
}

}  // namespace cover
