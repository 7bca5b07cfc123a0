#include "cover/views.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "cover/appearance.h"
#include "kernels/views.h"

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

// The largest |component| of an affine field on the crop. Each component is monotone along each axis, rounding
// included: a corner has it.
float largest_component(const AffineDisplacement& affine, int spatial_dims, const Sides& corner, const Sides& patch) {
    float largest = 0;
    for (std::size_t which = 0; which < 8; ++which) {
        double at[3];
        for (std::size_t a = 0; a < 3; ++a)
            at[a] = static_cast<double>(corner[a] + (which >> a & 1 ? patch[a] - 1 : 0));
        for (int axis = first_axis(spatial_dims); axis < 3; ++axis)
            largest = std::max(largest, std::abs(affine_displacement(affine, axis, at[0], at[1], at[2])));
    }
    return largest;
}

// One sample on its way to a field that may be used.
struct Candidate {
    int attempt = -1;
    ViewDraw draw;
    ElasticDraw elastic;
};

// What is drawn for the views of a batch. The decisions to draw again and to scale fall here, on the host; of the
// pixels they see two facts for each sample (kernels/views.h).
class Draws {
public:
    Draws(const TrainConfig& config, const std::vector<SampleKey>& keys, const Sides& sides, bool elastic)
        : config_(config),
          keys_(keys),
          sides_(sides),
          elastic_(elastic),
          reach_(static_cast<float>(pyramid_reach(config))),
          candidates_(keys.size()) {
        for (std::size_t i = 0; i < keys.size(); ++i) draw(i);
    }

    const Candidate& operator[](std::size_t i) const { return candidates_[i]; }

    // The field of sample i has been made. False when it is of no use, or not yet: then candidate i has changed, its
    // elastic term too where `redrawn` is set.
    bool accept(std::size_t i, std::int64_t valid, float largest, bool& redrawn) {
        Candidate& candidate = candidates_[i];
        redrawn = false;
        if (config_.limit_reach == LimitReach::scale && largest > reach_ && !std::isfinite(candidate.draw.limit)) {
            scale(candidate.draw, largest);
            return false;
        }
        const bool unreachable = config_.limit_reach == LimitReach::redraw && largest > reach_;
        if ((valid > 0 && !unreachable) || candidate.attempt == most_attempts) return true;
        draw(i);
        redrawn = true;
        return false;
    }

private:
    void draw(std::size_t i) {
        Candidate& candidate = candidates_[i];
        const SampleKey key = keys_[i];
        for (bool hopeless = true; hopeless;) {
            ++candidate.attempt;
            const auto random_key = [&](Purpose purpose) {
                return RandomKey{config_.seed, key.epoch, key.sample, purpose,
                                 static_cast<std::uint16_t>(candidate.attempt)};
            };
            RandomStream random(random_key(Purpose::affine));
            const AffineDisplacement affine = affine_map(draw_affine(config_, sides_, random), config_.dims, sides_);
            const Sides corner =
                config_.batch_shared_augmentation
                    ? draw_corner(config_, sides_, {config_.seed, keys_[0].epoch, keys_[0].sample, Purpose::crop, 0})
                    : draw_corner(config_, sides_, random_key(Purpose::crop));
            candidate.draw = {
                .affine = affine, .corner = {corner[0], corner[1], corner[2]}, .sample = static_cast<std::int64_t>(i)};
            if (elastic_) {
                candidate.elastic = draw_elastic(config_, random_key(Purpose::elastic));
                candidate.draw.elastic_scale = candidate.elastic.alpha;
                return;
            }
            // An affine field need not be made to see how far it reaches.
            const float largest = largest_component(affine, config_.dims, corner, config_.patch);
            if (config_.limit_reach == LimitReach::scale && largest > reach_) scale(candidate.draw, largest);
            hopeless =
                config_.limit_reach == LimitReach::redraw && largest > reach_ && candidate.attempt < most_attempts;
        }
    }

    // The limit only undoes the last bit of rounding on the crop; nothing outside it is used.
    void scale(ViewDraw& draw, float largest) const {
        draw.factor = reach_ / largest;
        draw.limit = reach_;
    }

    const TrainConfig& config_;
    const std::vector<SampleKey>& keys_;
    Sides sides_;
    bool elastic_;
    float reach_;
    std::vector<Candidate> candidates_;
};

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
    const int nd = config.dims;
    const Sides sides = sides_of(images), patch = config.patch;
    const std::int64_t batch = images.side(0), channels = images.side(4);
    require(images.shape().rank() == 5 && batch == static_cast<std::int64_t>(keys.size()), ErrorKind::internal,
            "[views] one key for each of ", batch, " images is needed, got ", keys.size());
    for (std::size_t a = 0; a < 3; ++a)
        require(sides[a] >= patch[a], ErrorKind::data, "[views] sample ", keys[0].sample, " has sides ",
                images.shape().to_string(),
                ", smaller than the patch; choose a smaller patch or prepare larger images");
    const Device device = stream.device;
    const Tensor stored = images.to(device);
    const bool elastic = config.elastic && options.elastic_allowed;
    Draws draws(config, keys, sides, elastic);

    Views out;
    out.images = Tensor::empty({2 * batch, patch[0], patch[1], patch[2], channels}, DType::float32, device);
    out.field = Tensor::empty({batch, patch[0], patch[1], patch[2], nd}, DType::float32, device);
    out.mask = Tensor::empty({batch, patch[0], patch[1], patch[2], 1}, DType::float32, device);
    const Shape half{batch, patch[0], patch[1], patch[2], channels};
    Tensor moving = out.images.slice(0, half), fixed = out.images.slice(half.count(), half);
    Tensor waves;  // the elastic term of whole images
    if (elastic) {
        waves = Tensor::empty({batch, sides[0], sides[1], sides[2], nd}, DType::float32, device);
        std::vector<ElasticDraw> all;
        for (std::size_t i = 0; i < keys.size(); ++i) all.push_back(draws[i].elastic);
        make_elastic(waves, all, stream);
    }

    std::vector<std::size_t> pending(keys.size());
    std::iota(pending.begin(), pending.end(), std::size_t{0});
    std::int64_t total = 0;
    while (!pending.empty()) {
        std::vector<ViewDraw> records;
        for (const std::size_t i : pending) records.push_back(draws[i].draw);
        const Tensor records_there = records_on<ViewDraw>(device, records);
        const auto count = static_cast<std::int64_t>(pending.size());
        Tensor facts = Tensor::empty({count, 2}, DType::float64, device);
        cut_views(moving.view(), fixed.view(), out.field.view(), out.mask.view(), facts.view(), stored.view(),
                  waves.const_view(), records_there.view(),
                  {.n = batch,
                   .draws = count,
                   .image = {nd, sides[0], sides[1], sides[2]},
                   .patch = {nd, patch[0], patch[1], patch[2]},
                   .channels = channels,
                   .convention = config.warp},
                  stream);
        const Tensor facts_here = facts.to(Device::cpu);
        std::vector<std::size_t> still;
        for (std::size_t k = 0; k < pending.size(); ++k) {
            const std::size_t i = pending[k];
            const double* of_sample = facts_here.data<double>() + 2 * k;
            const auto valid = static_cast<std::int64_t>(of_sample[0]);
            bool redrawn = false;
            if (draws.accept(i, valid, static_cast<float>(of_sample[1]), redrawn)) {
                total += valid;
                out.redrawn += draws[i].attempt > 0;
                continue;
            }
            still.push_back(i);
            if (!elastic || !redrawn) continue;
            const Shape one{1, sides[0], sides[1], sides[2], nd};
            Tensor wave = waves.slice(static_cast<std::int64_t>(i) * one.count(), one);
            make_elastic(wave, {draws[i].elastic}, stream);
        }
        pending = std::move(still);
    }

    if (options.appearance)
        change_appearance(moving, config, keys,
                          config.batch_shared_augmentation ? std::vector<SampleKey>(keys.size(), keys[0]) : keys,
                          stream);
    out.valid = static_cast<double>(total) / static_cast<double>(batch * patch[0] * patch[1] * patch[2]);
    out.empty = total == 0;
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
