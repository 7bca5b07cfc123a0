#include "cover/views.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numbers>

#include "cover/appearance.h"
#include "kernels/warp.h"

namespace cover {
namespace {

constexpr int most_attempts = 16;  // further draws of a sample, spec section 1

using Sides = std::array<std::int64_t, 3>;

Sides sides_of(const Tensor& images) { return {images.side(1), images.side(2), images.side(3)}; }

// First axis of (D,H,W) that is spatial.
int first_axis(int spatial_dims) { return 3 - spatial_dims; }

Sides draw_corner(const TrainConfig& config, const Sides& sides, const RandomKey& key) {
    RandomStream random(key);
    Sides corner{};
    for (int axis = first_axis(config.dims); axis < 3; ++axis) {
        const auto a = static_cast<std::size_t>(axis);
        corner[a] = random.below(sides[a] - config.patch[a] + 1);
    }
    return corner;
}

struct CropFacts {
    std::int64_t valid = 0;
    float largest = 0;  // largest |component| on the crop
};

// What a displacement field looks like on the crop, before anything is written. displacement(axis, d, h, w) -> float.
template <class F>
CropFacts inspect_crop(int spatial_dims, const Sides& corner, const Sides& patch, F&& displacement) {
    CropFacts facts;
    for (std::int64_t d = 0; d < patch[0]; ++d)
        for (std::int64_t h = 0; h < patch[1]; ++h)
            for (std::int64_t w = 0; w < patch[2]; ++w) {
                const std::int64_t at[3] = {d, h, w};
                bool inside = true;
                for (int axis = first_axis(spatial_dims); axis < 3; ++axis) {
                    const auto a = static_cast<std::size_t>(axis);
                    const float psi = displacement(axis, corner[0] + d, corner[1] + h, corner[2] + w);
                    facts.largest = std::max(facts.largest, std::abs(psi));
                    inside = inside && lands_inside(at[a], psi, patch[a]);
                }
                facts.valid += inside;
            }
    return facts;
}

}  // namespace

AffineDisplacement affine_map(const AffineDraw& draw, int spatial_dims, const Sides& sides) {
    double linear[3][3] = {};  // A, by axes x, y, z of the array
    const double scale[3] = {draw.scale[0], draw.scale[1], draw.scale[2]};
    const auto multiply = [](const double(&a)[3][3], const double(&b)[3][3], double(&out)[3][3]) {
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) {
                out[i][j] = 0;
                for (int k = 0; k < 3; ++k) out[i][j] += a[i][k] * b[k][j];
            }
    };
    double rotation[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    double shear[3][3] = {{1, std::tan(draw.shear.xy), std::tan(draw.shear.xz)},
                          {std::tan(draw.shear.yx), 1, std::tan(draw.shear.yz)},
                          {std::tan(draw.shear.zx), std::tan(draw.shear.zy), 1}};
    if (spatial_dims == 2) {
        const double angle = draw.angle[0] - draw.angle[1], c = std::cos(angle), s = std::sin(angle);
        rotation[0][0] = c;
        rotation[0][1] = -s;
        rotation[1][0] = s;
        rotation[1][1] = c;
    } else {
        const double cx = std::cos(draw.angle[0]), sx = std::sin(draw.angle[0]);
        const double cy = std::cos(draw.angle[1]), sy = std::sin(draw.angle[1]);
        const double cz = std::cos(draw.angle[2]), sz = std::sin(draw.angle[2]);
        const double rx[3][3] = {{1, 0, 0}, {0, cx, -sx}, {0, sx, cx}};
        const double ry[3][3] = {{cy, 0, sy}, {0, 1, 0}, {-sy, 0, cy}};
        const double rz[3][3] = {{cz, -sz, 0}, {sz, cz, 0}, {0, 0, 1}};
        double xy[3][3];
        multiply(rx, ry, xy);
        multiply(xy, rz, rotation);
    }
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) shear[i][j] *= scale[i];  // diag(scale) * shear
    multiply(rotation, shear, linear);

    AffineDisplacement out;
    const int first = first_axis(spatial_dims);
    for (int i = 0; i < spatial_dims; ++i) {
        double shift = draw.translation[static_cast<std::size_t>(i)] +
                       static_cast<double>(sides[static_cast<std::size_t>(first + i)] / 2);
        for (int j = 0; j < spatial_dims; ++j) {
            out.slope[first + i][first + j] = linear[i][j] - (i == j ? 1 : 0);
            shift -= linear[i][j] * static_cast<double>(sides[static_cast<std::size_t>(first + j)] - 1) / 2;
        }
        out.shift[first + i] = shift;
    }
    return out;
}

AffineDraw draw_affine(const TrainConfig& config, const Sides& sides, RandomStream& random) {
    const double radians = std::numbers::pi / 180, g = config.degree;
    const auto dims = static_cast<std::size_t>(config.dims);
    const auto first = static_cast<std::size_t>(first_axis(config.dims));
    AffineDraw draw;
    const auto within = [&](double half_width) { return random.uniform(-half_width, half_width); };
    for (std::size_t a = 0; a < dims; ++a) draw.angle[a] = within(g * config.rotation * radians);
    for (std::size_t a = 0; a < dims; ++a) draw.scale[a] = 1 + within(g * config.scale);
    for (std::size_t a = 0; a < dims; ++a)
        draw.translation[a] = within(g * config.translation * static_cast<double>(sides[first + a]));
    const double shear = g * config.shear * radians;
    draw.shear.xy = within(shear);
    draw.shear.yx = within(shear);
    if (dims == 3) {
        draw.shear.xz = within(shear);
        draw.shear.yz = within(shear);
        draw.shear.zx = within(shear);
        draw.shear.zy = within(shear);
    }
    return draw;
}

Views make_views(const Tensor& images, const std::vector<SampleKey>& keys, const TrainConfig& config, Stream& stream,
                 const ViewOptions& options) {
    Stream host = host_stream(stream);
    const int nd = config.dims, first = first_axis(nd);
    const Sides sides = sides_of(images), patch = config.patch;
    const std::int64_t batch = images.side(0), channels = images.side(4);
    require(images.shape().rank() == 5 && batch == static_cast<std::int64_t>(keys.size()), ErrorKind::internal,
            "[views] one key for each of ", batch, " images is needed, got ", keys.size());
    for (std::size_t a = 0; a < 3; ++a)
        require(sides[a] >= patch[a], ErrorKind::data, "[views] sample ", keys[0].sample, " has sides ",
                images.shape().to_string(),
                ", smaller than the patch; choose a smaller patch or prepare larger images");
    const std::int64_t image_pixels = sides[0] * sides[1] * sides[2];
    const std::int64_t patch_pixels = patch[0] * patch[1] * patch[2];
    const auto reach = static_cast<float>(pyramid_reach(config));

    Views out;
    out.images = Tensor::empty({2 * batch, patch[0], patch[1], patch[2], channels});
    out.field = Tensor::empty({batch, patch[0], patch[1], patch[2], nd});
    out.mask = Tensor::empty({batch, patch[0], patch[1], patch[2], 1});
    Tensor whole_field = Tensor::empty({batch, sides[0], sides[1], sides[2], nd});
    Tensor warped = Tensor::empty(images.shape());
    std::vector<Sides> corners(keys.size());
    std::vector<std::int64_t> valid(keys.size()), redraws(keys.size());

    host.parallel(batch, [&](std::int64_t b) {
        const auto i = static_cast<std::size_t>(b);
        const SampleKey key = keys[i];
        float* field = whole_field.data<float>() + b * image_pixels * nd;
        for (int attempt = 0;; ++attempt) {
            const auto random_key = [&](Purpose purpose) {
                return RandomKey{config.seed, key.epoch, key.sample, purpose, static_cast<std::uint16_t>(attempt)};
            };
            RandomStream random(random_key(Purpose::affine));
            const AffineDisplacement affine = affine_map(draw_affine(config, sides, random), nd, sides);
            corners[i] =
                config.batch_shared_augmentation
                    ? draw_corner(config, sides, {config.seed, keys[0].epoch, keys[0].sample, Purpose::crop, 0})
                    : draw_corner(config, sides, random_key(Purpose::crop));
            std::int64_t pixel = 0;
            for (std::int64_t d = 0; d < sides[0]; ++d)
                for (std::int64_t h = 0; h < sides[1]; ++h)
                    for (std::int64_t w = 0; w < sides[2]; ++w, ++pixel)
                        for (int axis = first; axis < 3; ++axis)
                            field[pixel * nd + axis - first] = affine_displacement(
                                affine, axis, static_cast<double>(d), static_cast<double>(h), static_cast<double>(w));
            if (config.elastic && options.elastic_allowed)
                add_elastic(field, nd, sides, config, random_key(Purpose::elastic));
            const auto displacement = [&](int axis, std::int64_t d, std::int64_t h, std::int64_t w) {
                return field[((d * sides[1] + h) * sides[2] + w) * nd + axis - first];
            };
            CropFacts facts = inspect_crop(nd, corners[i], patch, displacement);
            if (config.limit_reach == LimitReach::scale && facts.largest > reach) {
                // The clamp only undoes the last bit of rounding on the crop; nothing outside it is used.
                const float factor = reach / facts.largest;
                for (std::int64_t e = 0; e < image_pixels * nd; ++e)
                    field[e] = std::min(std::max(field[e] * factor, -reach), reach);
                facts = inspect_crop(nd, corners[i], patch, displacement);
            }
            const bool unreachable = config.limit_reach == LimitReach::redraw && facts.largest > reach;
            valid[i] = facts.valid;
            redraws[i] = attempt;
            if ((facts.valid > 0 && !unreachable) || attempt == most_attempts) break;
        }
    });

    warp(warped.view(), images.view(), whole_field.const_view(),
         {.n = batch, .grid = {nd, sides[0], sides[1], sides[2]}, .channels = channels, .convention = config.warp},
         host);

    host.parallel(batch, [&](std::int64_t b) {
        const auto i = static_cast<std::size_t>(b);
        const Sides& corner = corners[i];
        float* moving = out.images.data<float>() + b * patch_pixels * channels;
        float* fixed = out.images.data<float>() + (batch + b) * patch_pixels * channels;
        float* field = out.field.data<float>() + b * patch_pixels * nd;
        float* mask = out.mask.data<float>() + b * patch_pixels;
        for (std::int64_t d = 0; d < patch[0]; ++d)
            for (std::int64_t h = 0; h < patch[1]; ++h) {
                const std::int64_t row = (d * patch[1] + h) * patch[2];
                const std::int64_t from = b * image_pixels + ((corner[0] + d) * sides[1] + corner[1] + h) * sides[2] +
                                          corner[2];  // in pixels of the batch
                const auto copy = [&](float* to, const float* source, std::int64_t width) {
                    std::memcpy(to + row * width, source + from * width,
                                static_cast<std::size_t>(patch[2] * width) * sizeof(float));
                };
                copy(moving, images.data<float>(), channels);
                copy(fixed, warped.data<float>(), channels);
                copy(field, whole_field.data<float>(), nd);
                for (std::int64_t w = 0; w < patch[2]; ++w) {
                    const std::int64_t at[3] = {d, h, w};
                    bool inside = true;
                    for (int axis = first; axis < 3; ++axis)
                        inside = inside && lands_inside(at[axis], field[(row + w) * nd + axis - first],
                                                        patch[static_cast<std::size_t>(axis)]);
                    mask[row + w] = inside ? 1.0f : 0.0f;
                }
            }
        if (options.appearance)
            change_appearance(moving, nd, patch, channels, config, keys[i],
                              config.batch_shared_augmentation ? keys[0] : keys[i]);
    });

    std::int64_t total = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        total += valid[i];
        out.redrawn += redraws[i] > 0;
    }
    out.valid = static_cast<double>(total) / static_cast<double>(batch * patch_pixels);
    out.empty = total == 0;
    for (Tensor* tensor : {&out.images, &out.field, &out.mask}) *tensor = tensor->to(stream.device);
    return out;
}

ReachStatistics reach_statistics(const TrainConfig& config, const Sides& sides, int draws) {
    const int nd = config.dims, first = first_axis(nd);
    const double reach = pyramid_reach(config);
    const std::int64_t points = nd == 2 ? 24 : 8;  // of the lattice, per axis
    double valid = 0, beyond = 0, zero_field = 0, excess = 0;
    for (int draw = 0; draw < draws; ++draw) {
        // Keyed apart from the run's own draws by the epoch, which a run never reaches.
        const auto key = [&](Purpose purpose) {
            return RandomKey{config.seed, 0xffffffffu, static_cast<std::uint32_t>(draw), purpose, 0};
        };
        RandomStream random(key(Purpose::affine));
        const AffineDisplacement affine = affine_map(draw_affine(config, sides, random), nd, sides);
        const Sides corner = draw_corner(config, sides, key(Purpose::crop));
        const auto lattice = [&](std::int64_t index, std::size_t axis) {
            return config.patch[axis] == 1 ? 0 : (2 * index + 1) * config.patch[axis] / (2 * points);
        };
        for (std::int64_t a = 0; a < (nd == 3 ? points : 1); ++a)
            for (std::int64_t b = 0; b < points; ++b)
                for (std::int64_t c = 0; c < points; ++c) {
                    const std::int64_t at[3] = {lattice(a, 0), lattice(b, 1), lattice(c, 2)};
                    bool inside = true, unreachable = false;
                    double length = 0, over = 0;
                    for (int axis = first; axis < 3; ++axis) {
                        const float psi = affine_displacement(affine, axis, static_cast<double>(corner[0] + at[0]),
                                                              static_cast<double>(corner[1] + at[1]),
                                                              static_cast<double>(corner[2] + at[2]));
                        inside = inside && lands_inside(at[axis], psi, config.patch[static_cast<std::size_t>(axis)]);
                        const double size = std::abs(static_cast<double>(psi));
                        unreachable = unreachable || size > reach;
                        length += size;
                        over += std::max(size - reach, 0.0);
                    }
                    if (!inside) continue;
                    valid += 1;
                    beyond += unreachable;
                    zero_field += length;
                    excess += over;
                }
    }
    if (valid == 0) return {};
    return {beyond / valid, zero_field / valid, excess / valid};
}

}  // namespace cover
