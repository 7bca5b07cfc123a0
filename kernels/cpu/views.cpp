#include "kernels/views.h"

#include <cstring>

#include "kernels/cpu/rows.h"

namespace cover::cpu {
namespace {

struct Facts {
    std::int64_t valid = 0;
    float largest = 0;
};

// The mask of row (d, h) of the patch from its part of the field, and what it says.
Facts mask_row(float* mask, const float* field, std::int64_t d, std::int64_t h, const Grid& patch) {
    Facts facts;
    const int nd = patch.spatial_dims, first = 3 - nd;
    const std::int64_t sides[3] = {patch.d, patch.h, patch.w};
    for (std::int64_t w = 0; w < patch.w; ++w) {
        const std::int64_t at[3] = {d, h, w};
        bool inside = true;
        for (int axis = first; axis < 3; ++axis) {
            const float psi = field[w * nd + axis - first];
            facts.largest = std::max(facts.largest, std::abs(psi));
            inside = inside && lands_inside(at[axis], psi, sides[axis]);
        }
        mask[w] = inside ? 1.0f : 0.0f;
        facts.valid += inside;
    }
    return facts;
}

// Sample after sample: the field of the whole image, the warp of the whole image by the rows of `warp`, then the crops.
void run(View moving, View fixed, View field, View mask, View facts, ConstView images, ConstView elastic,
         ConstView draws, const CutViewsParams& p, Stream& stream) {
    const Grid &image = p.image, &patch = p.patch;
    const int nd = patch.spatial_dims, first = 3 - nd;
    const std::int64_t pixels = image.pixels(), channels = p.channels, rows = patch.d * patch.h;
    Workspace<float> whole_field(pixels * nd), warped(pixels * channels);
    Workspace<Facts> row_facts(rows);
    Stream inner = stream;
    inner.profile = nullptr;  // the warp is part of this row's time
    for (std::int64_t i = 0; i < p.draws; ++i) {
        const ViewDraw& draw = records_of<ViewDraw>(draws)[i];
        const float* waves = elastic ? elastic.as<float>() + draw.sample * pixels * nd : nullptr;
        stream.parallel(image.d * image.h, [&](std::int64_t row) {
            for (std::int64_t w = 0; w < image.w; ++w)
                for (int axis = first; axis < 3; ++axis) {
                    const std::int64_t at = (row * image.w + w) * nd + axis - first;
                    whole_field[at] =
                        view_displacement(draw, axis, row / image.h, row % image.h, w, waves ? waves[at] : 0.0f);
                }
        });
        const float* source = images.as<float>() + draw.sample * pixels * channels;
        warp(View(warped.data(), pixels * channels), ConstView(source, pixels * channels),
             ConstView(whole_field.data(), pixels * nd),
             {.n = 1, .grid = image, .channels = channels, .convention = p.convention}, inner);
        stream.parallel(rows, [&](std::int64_t row) {
            const std::int64_t d = row / patch.h, h = row % patch.h;
            const std::int64_t to = (draw.sample * rows + row) * patch.w;
            const std::int64_t from = ((draw.corner[0] + d) * image.h + draw.corner[1] + h) * image.w + draw.corner[2];
            const auto copy = [&](const View& out, const float* whole, std::int64_t width) {
                std::memcpy(out.as<float>() + to * width, whole + from * width,
                            static_cast<std::size_t>(patch.w * width) * sizeof(float));
            };
            copy(moving, source, channels);
            copy(fixed, warped.data(), channels);
            copy(field, whole_field.data(), nd);
            row_facts[row] = mask_row(mask.as<float>() + to, field.as<float>() + to * nd, d, h, patch);
        });
        Facts total;
        for (std::int64_t row = 0; row < rows; ++row) {
            total.valid += row_facts[row].valid;
            total.largest = std::max(total.largest, row_facts[row].largest);
        }
        facts.as<double>()[2 * i] = static_cast<double>(total.valid);
        facts.as<double>()[2 * i + 1] = static_cast<double>(total.largest);
    }
}

}  // namespace

std::span<const CutViewsVariant> cut_views_rows() {
    static constexpr CutViewsVariant rows[] = {
        {"cpu", Device::cpu, DType::float32, Math::exact, always<CutViewsParams>, run}};
    return rows;
}

}  // namespace cover::cpu
