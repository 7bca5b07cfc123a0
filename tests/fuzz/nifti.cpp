#include "data/nifti.h"

#include <algorithm>
#include <cmath>

#include "tests/fuzz/targets.h"

namespace cover::fuzz {

void nifti(const unsigned char* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    only(ErrorKind::data, [&] {
        NiftiReader reader = NiftiReader::from_bytes(bytes, "fuzz");
        const NiftiHeader header = reader.header();
        const AxisOrder order = closest_ras(header.affine);
        std::array<int, 3> axes = order.from;
        std::sort(axes.begin(), axes.end());
        if (axes != std::array<int, 3>{0, 1, 2}) broken("an order of axes that leaves one out");
        if (const auto back = inverse(header.affine))
            for (const double x : back->m)
                if (!std::isfinite(x)) broken("an inverse that is not finite");
        const auto range = header.type_range();
        if (!(range[0] <= range[1])) broken("a range of values that is none");
        for (std::int64_t volume = 0; volume < std::min<std::int64_t>(header.volumes, 64); ++volume) {
            const std::vector<float> values = reader.next();
            if (static_cast<std::int64_t>(values.size()) != header.voxels()) broken("another number of voxels");
            if (volume == 0) (void)to_stored_order(values, header.shape, order);
        }
    });
}

}  // namespace cover::fuzz
