#include "kernels/views.h"

#include <array>
#include <cmath>

namespace cover::ref {
namespace {

// One pixel of one channel of the warped image: the weighted sum of the corners inside, at `at` (D, H, W).
template <class T>
double sample_at(const T* image, const std::array<double, 3>& at, const Grid& grid, std::int64_t channels) {
    const std::array<std::int64_t, 3> sides{grid.d, grid.h, grid.w};
    std::array<std::array<double, 2>, 3> weight{};
    std::array<std::int64_t, 3> left{};
    for (std::size_t a = 0; a < 3; ++a) {
        if (!(at[a] > -1.0 && at[a] < static_cast<double>(sides[a]))) return 0;
        const double floor = std::floor(at[a]);
        left[a] = static_cast<std::int64_t>(floor);
        weight[a] = {1.0 - (at[a] - floor), at[a] - floor};
    }
    double sum = 0;
    for (std::size_t corner = 0; corner < 8; ++corner) {
        double product = 1;
        std::int64_t index = 0;
        bool inside = true;
        for (std::size_t a = 0; a < 3; ++a) {
            const std::size_t right = corner >> (2 - a) & 1;
            const std::int64_t i = left[a] + static_cast<std::int64_t>(right);
            inside = inside && i >= 0 && i < sides[a];
            product *= weight[a][right];
            index = index * sides[a] + i;
        }
        if (inside) sum += product * static_cast<double>(image[index * channels]);
    }
    return sum;
}

template <class T>
void run(View moving_view, View fixed_view, View field_view, View mask_view, View facts_view, ConstView images_view,
         ConstView elastic_view, ConstView draws_view, const CutViewsParams& p, Stream& stream) {
    const Grid &image = p.image, &patch = p.patch;
    const int nd = patch.spatial_dims, first = 3 - nd;
    const std::int64_t channels = p.channels;
    stream.parallel(p.draws, [&](std::int64_t i) {
        const ViewDraw& draw = records_of<ViewDraw>(draws_view)[i];
        const T* source = images_view.as<T>() + draw.sample * image.pixels() * channels;
        const T* elastic = elastic_view ? elastic_view.as<T>() + draw.sample * image.pixels() * nd : nullptr;
        const std::int64_t sides[3] = {image.d, image.h, image.w}, room[3] = {patch.d, patch.h, patch.w};
        std::int64_t valid = 0, pixel = draw.sample * patch.pixels();
        float largest = 0;
        for (std::int64_t d = 0; d < patch.d; ++d)
            for (std::int64_t h = 0; h < patch.h; ++h)
                for (std::int64_t w = 0; w < patch.w; ++w, ++pixel) {
                    const std::int64_t at[3] = {d, h, w},
                                       whole[3] = {draw.corner[0] + d, draw.corner[1] + h, draw.corner[2] + w};
                    const std::int64_t from = (whole[0] * image.h + whole[1]) * image.w + whole[2];
                    bool inside = true;
                    std::array<double, 3> target{};
                    for (int axis = first; axis < 3; ++axis) {
                        const float wave = elastic ? static_cast<float>(elastic[from * nd + axis - first]) : 0.0f;
                        const float psi = view_displacement(draw, axis, whole[0], whole[1], whole[2], wave);
                        field_view.as<T>()[pixel * nd + axis - first] = static_cast<T>(psi);
                        largest = std::max(largest, std::abs(psi));
                        inside = inside && lands_inside(at[axis], psi, room[axis]);
                        double& to = target[static_cast<std::size_t>(axis)];
                        to = static_cast<double>(whole[axis]) + static_cast<double>(psi);
                        if (p.convention == WarpConvention::exact) continue;
                        if (sides[axis] > 1)
                            to *= static_cast<double>(sides[axis]) / static_cast<double>(sides[axis] - 1);
                        to -= 0.5;
                    }
                    mask_view.as<T>()[pixel] = static_cast<T>(inside ? 1 : 0);
                    valid += inside;
                    for (std::int64_t c = 0; c < channels; ++c) {
                        moving_view.as<T>()[pixel * channels + c] = source[from * channels + c];
                        fixed_view.as<T>()[pixel * channels + c] =
                            static_cast<T>(sample_at(source + c, target, image, channels));
                    }
                }
        facts_view.as<double>()[2 * i] = static_cast<double>(valid);
        facts_view.as<double>()[2 * i + 1] = static_cast<double>(largest);
    });
}

}  // namespace

std::span<const CutViewsVariant> cut_views_rows() {
    static constexpr CutViewsVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<CutViewsParams>, run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<CutViewsParams>, run<double>}};
    return rows;
}

}  // namespace cover::ref
