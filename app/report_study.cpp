#include "app/report_study.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "app/pictures.h"
#include "autograd/ops.h"
#include "core/check.h"
#include "cover/principal_components.h"
#include "kernels/warp.h"

namespace cover::app {
namespace {

constexpr std::uint32_t picture_epoch = 0xfffffffe;  // no run comes this far: its draws are its own
constexpr std::int64_t scored_pixels = std::int64_t{1} << 21;
constexpr double finest_bin = 0.25;  // pixels
constexpr std::size_t most_bins = 20;
constexpr unsigned char outside = 128;  // gray where the moving view has nothing to show

// A picture's axes among (D, H, W): 1 and 2 in 2D, two of the three in 3D.
struct Cut {
    int right = 2, vertical = 1;
    bool up = false;  // the vertical axis points up
};

std::vector<Cut> cuts_of(int dims) {
    if (dims == 2) return {{2, 1, false}};
    return {{1, 2, true}, {0, 2, true}, {0, 1, true}};
}

// One map (1, D, H, W, C), seen through a cut at the centre of the third axis.
class Slice {
public:
    Slice(const Tensor& map, const Cut& cut, int dims) : map_(map), cut_(cut), first_axis_(3 - dims) {
        const Shape& s = map.shape();
        for (std::size_t axis = 0; axis < 3; ++axis) side_[axis] = s[static_cast<int>(axis) + 1];
        channels_ = s[4];
    }
    int height() const { return static_cast<int>(side_[static_cast<std::size_t>(cut_.vertical)]); }
    int width() const { return static_cast<int>(side_[static_cast<std::size_t>(cut_.right)]); }
    std::int64_t channels() const { return channels_; }

    const float* at(int row, int column) const {
        std::int64_t index[3];
        for (std::size_t axis = 0; axis < 3; ++axis) index[axis] = side_[axis] / 2;
        index[cut_.vertical] = cut_.up ? height() - 1 - row : row;
        index[cut_.right] = column;
        return map_.data<float>() + ((index[0] * side_[1] + index[1]) * side_[2] + index[2]) * channels_;
    }
    std::vector<float> channel(std::int64_t c) const {
        std::vector<float> out;
        for (int row = 0; row < height(); ++row)
            for (int column = 0; column < width(); ++column) out.push_back(at(row, column)[c]);
        return out;
    }
    // Of a field: (down, right).
    std::vector<float> vectors() const {
        std::vector<float> out;
        for (int row = 0; row < height(); ++row)
            for (int column = 0; column < width(); ++column) {
                const float* v = at(row, column);
                out.push_back((cut_.up ? -1.0f : 1.0f) * v[cut_.vertical - first_axis_]);
                out.push_back(v[cut_.right - first_axis_]);
            }
        return out;
    }
    std::vector<float> rows() const {
        std::vector<float> out;
        for (int row = 0; row < height(); ++row)
            for (int column = 0; column < width(); ++column) {
                const float* v = at(row, column);
                out.insert(out.end(), v, v + channels_);
            }
        return out;
    }

private:
    const Tensor& map_;
    Cut cut_;
    int first_axis_;
    std::int64_t side_[3]{}, channels_ = 0;
};

std::string sides_text(const Tensor& map, int dims) {
    const Shape& s = map.shape();
    return dims == 2 ? text(s[2], " x ", s[3]) : text(s[1], " x ", s[2], " x ", s[3]);
}

// What the axes of a file's samples are called and how far apart their points lie.
struct Axes {
    int dims = 2;
    std::vector<double> spacing;
    bool anatomical = false;  // stored as (right, anterior, superior), which only `prepare` promises
};

Plane plane_of(const Tensor& map, const Cut& cut, const Axes& axes) {
    const int third = 3 - cut.right - cut.vertical;
    const Slice slice(map, cut, axes.dims);
    Plane plane{.name = "", .height = slice.height(), .width = slice.width(), .pixel_aspect = 1};
    if (axes.dims == 3) {
        constexpr const char *letters[3] = {"D", "H", "W"},
                             *directions[3] = {"patient's right", "anterior", "superior"},
                             *planes[3] = {"Sagittal plane", "Coronal plane", "Axial plane"};
        const char* const* names = axes.anatomical ? directions : letters;
        plane.name =
            text(axes.anatomical ? planes[third] : "Plane", " ", letters[third], " = ", map.side(third + 1) / 2, ": ",
                 names[cut.right], " to the right, ", names[cut.vertical], " up");
    }
    const auto mm = [&](int axis) { return axes.spacing[static_cast<std::size_t>(axis - (3 - axes.dims))]; };
    const double aspect = mm(cut.right) / mm(cut.vertical);
    if (std::isfinite(aspect) && aspect > 0) plane.pixel_aspect = std::clamp(aspect, 0.1, 10.0);
    return plane;
}

struct PixelSums {
    double valid = 0, error = 0, length = 0;
};

// Over the pixels of the mask: lengths of the difference of two fields and of the second.
PixelSums compare(const Tensor& field, const Tensor& truth, const Tensor& mask, int dims) {
    PixelSums sums;
    for (std::int64_t i = 0; i < mask.count(); ++i) {
        if (mask.data<float>()[i] == 0) continue;
        double error = 0, length = 0;
        for (std::int64_t k = i * dims; k < (i + 1) * dims; ++k) {
            const double wanted = truth.data<float>()[k], difference = field.data<float>()[k] - wanted;
            error += difference * difference;
            length += wanted * wanted;
        }
        sums.valid += 1;
        sums.error += std::sqrt(error);
        sums.length += std::sqrt(length);
    }
    return sums;
}

double mean_length(const Tensor& field, int dims) {
    double sum = 0;
    const std::int64_t pixels = field.count() / dims;
    for (std::int64_t i = 0; i < pixels; ++i) {
        double length = 0;
        for (std::int64_t k = i * dims; k < (i + 1) * dims; ++k)
            length += static_cast<double>(field.data<float>()[k]) * field.data<float>()[k];
        sum += std::sqrt(length);
    }
    return sum / static_cast<double>(pixels);
}

class BinsBySize {
public:
    explicit BinsBySize(int dims) : dims_(dims), bins_(std::size_t{1} << 14) {}

    void add(const Views& views, const Tensor& predicted) {
        const float *truth = views.field.data<float>(), *field = predicted.data<float>();
        for (std::int64_t i = 0; i < views.mask.count(); ++i) {
            if (views.mask.data<float>()[i] == 0) continue;
            double error = 0, length = 0, largest = 0;
            for (std::int64_t k = i * dims_; k < (i + 1) * dims_; ++k) {
                const double wanted = truth[k], difference = field[k] - wanted;
                error += difference * difference;
                length += wanted * wanted;
                largest = std::max(largest, std::abs(wanted));
            }
            auto& bin = bins_[std::min(static_cast<std::size_t>(largest / finest_bin), bins_.size() - 1)];
            bin.valid += 1;
            bin.error += std::sqrt(error);
            bin.length += std::sqrt(length);
        }
    }

    BySize result() const {
        std::size_t used = bins_.size();
        while (used > 1 && bins_[used - 1].valid == 0) --used;
        // Widths of 0.25, 0.5, 1, 2, 5, 10, ... pixels.
        std::size_t factor = 1;
        for (const std::size_t wider : {2, 4, 8, 20, 40, 80, 200, 400, 800, 2000})
            if ((used + factor - 1) / factor > most_bins) factor = wider;
        BySize out{.width = finest_bin * static_cast<double>(factor), .share = {}, .error = {}, .length = {}};
        double all = 0;
        for (const auto& bin : bins_) all += bin.valid;
        for (std::size_t from = 0; from < used && all > 0; from += factor) {
            PixelSums sum;
            for (std::size_t i = from; i < std::min(from + factor, bins_.size()); ++i) {
                sum.valid += bins_[i].valid;
                sum.error += bins_[i].error;
                sum.length += bins_[i].length;
            }
            out.share.push_back(sum.valid / all);
            out.error.push_back(sum.valid > 0 ? sum.error / sum.valid : std::nan(""));
            out.length.push_back(sum.valid > 0 ? sum.length / sum.valid : std::nan(""));
        }
        return out;
    }

private:
    int dims_;
    std::vector<PixelSums> bins_;
};

void score(RunReport& report, const StudySource& source, Stream& stream) {
    TrainConfig config = source.config;
    config.seed = 1;
    const Grid patch{config.dims, config.patch[0], config.patch[1], config.patch[2]};
    const std::int64_t pairs = std::clamp<std::int64_t>(scored_pixels / patch.pixels(), 4, 64);
    config.batch = config.dims == 2 ? 4 : 1;
    const auto count = static_cast<std::int64_t>(source.samples.size());
    Evaluator evaluator(source.model, config, stream);
    BinsBySize bins(config.dims);
    for (std::int64_t from = 0; from < pairs; from += config.batch) {
        std::vector<std::int64_t> samples;
        std::vector<SampleKey> keys;
        for (std::int64_t i = from; i < std::min(from + config.batch, pairs); ++i) {
            samples.push_back(source.samples[static_cast<std::size_t>(i % count)]);
            keys.push_back({static_cast<std::uint32_t>(i / count), static_cast<std::uint32_t>(samples.back())});
        }
        evaluator.add(read_images(source.patches, samples), keys);
        bins.add(evaluator.views(), evaluator.predicted());
    }
    report.scores = evaluator.result();
    report.by_size = bins.result();
}

void study_levels(RunReport& report, const std::vector<PyramidLevel>& trace, const Views& views,
                  const TrainConfig& config, Graph& graph) {
    const int dims = config.dims;
    const auto whole = [&](Var map) {
        while (map.shape()[3] < views.field.side(3)) map = upsample(graph, map, true, 2.0);
        return graph.value(map);
    };
    for (std::size_t level = 0; level < trace.size(); ++level) {
        LevelField out;
        const std::int64_t scale = std::int64_t{16} >> level;
        Shape found = views.field.shape();
        for (int axis = 1; axis <= 3; ++axis) found[axis] = std::max<std::int64_t>(found[axis] / scale, 1);
        out.grid = dims == 2 ? text(found[2], " x ", found[3]) : text(found[1], " x ", found[2], " x ", found[3]);
        out.reach = static_cast<double>(scale) * config.radius;
        const Tensor own = whole(trace[level].own), sum = whole(trace[level].sum);
        const PixelSums sums = compare(sum, views.field, views.mask, dims);
        out.added = mean_length(own, dims);
        out.epe = sums.error / sums.valid;
        report.pyramid.length = sums.length / sums.valid;
        for (const Cut& cut : cuts_of(dims)) {
            out.own.push_back(Slice(own, cut, dims).vectors());
            out.sum.push_back(Slice(sum, cut, dims).vectors());
        }
        report.pyramid.levels.push_back(std::move(out));
    }
}

void study_features(RunReport& report, const Model::Prediction& prediction, const Views& views, const Model& model,
                    const Axes& axes, Graph& graph) {
    const int dims = model.config().spatial_dims;
    for (std::size_t level = prediction.fixed.size(); level-- > 0;) {
        const Tensor moving = graph.value(prediction.moving[level]), fixed = graph.value(prediction.fixed[level]);
        FeatureLevel out;
        out.channels = fixed.side(4);
        out.grid = sides_text(fixed, dims);
        ComponentAnalysis analysis(out.channels);
        for (const Tensor* map : {&moving, &fixed}) analysis.add(map->data<float>(), map->count() / out.channels);
        const PrincipalComponents components = analysis.result(3);
        for (std::int64_t k = 0; k < components.count(); ++k) out.shares.push_back(components.share(k));
        Tensor warped;
        const bool finest = level + 1 == prediction.fixed.size();
        if (finest) {
            warped = Tensor::empty(moving.shape());
            warp(warped.view(), moving.const_view(), views.field.const_view(),
                 {.n = 1, .grid = graph.grid_of(moving), .channels = out.channels, .convention = model.config().warp},
                 graph.stream());
        }
        const auto colours = [&](const Tensor& map, const Cut& cut) {
            const Slice slice(map, cut, dims);
            const auto rows = slice.rows();
            std::vector<unsigned char> rgb(rows.size() / static_cast<std::size_t>(out.channels) * 3);
            component_colours(components, rows.data(), static_cast<std::int64_t>(rgb.size() / 3), rgb.data());
            return rgb;
        };
        for (const Cut& cut : cuts_of(dims)) {
            out.planes.push_back(plane_of(fixed, cut, axes));
            out.moving.push_back(colours(moving, cut));
            out.fixed.push_back(colours(fixed, cut));
            if (!finest) continue;
            auto moved = colours(warped, cut);
            const auto mask = Slice(views.mask, cut, dims).channel(0);
            for (std::size_t i = 0; i < mask.size(); ++i)
                if (mask[i] == 0) std::fill_n(moved.begin() + static_cast<long>(3 * i), 3, outside);
            out.warped.push_back(std::move(moved));
        }
        report.features.push_back(std::move(out));
    }
}

ViewPair pair_of(const Tensor& moving, const Tensor& fixed, const Views& views, const Tensor& predicted,
                 const Axes& axes) {
    const int dims = axes.dims;
    ViewPair pair;
    const PixelSums sums = compare(predicted, views.field, views.mask, dims);
    pair.valid = views.valid;
    pair.epe = sums.error / sums.valid;
    pair.length = sums.length / sums.valid;
    for (const Cut& cut : cuts_of(dims)) {
        const Slice field(views.field, cut, dims);
        PlaneViews out;
        out.plane = plane_of(views.field, cut, axes);
        out.moving = Slice(moving, cut, dims).channel(0);
        out.fixed = Slice(fixed, cut, dims).channel(0);
        out.mask = Slice(views.mask, cut, dims).channel(0);
        out.truth = field.vectors();
        out.predicted = Slice(predicted, cut, dims).vectors();
        pair.planes.push_back(std::move(out));
    }
    return pair;
}

}  // namespace

void study(RunReport& report, const StudySource& source, Stream& stream) {
    const TrainConfig& config = source.config;
    report.reach = pyramid_reach(config);
    score(report, source, stream);
    const Axes axes{config.dims, source.patches.spacing(), source.patches.has_geometry()};
    const std::size_t wanted = config.dims == 2 ? 3 : 2, count = std::min(wanted, source.samples.size());
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t sample = source.samples[i * source.samples.size() / count];
        const Views views =
            make_views(read_images(source.patches, {sample}), keys_of({sample}, picture_epoch), config, stream);
        Graph graph(stream, config.dims, Graph::Retention::nothing);
        std::vector<PyramidLevel> trace;
        const Var images = graph.constant(views.images);
        const Model::Prediction prediction = source.model.predict(graph, images, &trace);
        const auto [moving, fixed] = split_batch(graph, images);
        report.pairs.push_back(pair_of(moving.value, fixed.value, views, prediction.field.value, axes));
        const auto& origin = source.patches.source(sample);
        report.pairs.back().caption = source.patches.where(sample) + (origin.empty() ? "" : " (" + origin + ")");
        if (i > 0) continue;
        study_levels(report, trace, views, config, graph);
        study_features(report, prediction, views, source.model, axes, graph);
    }
}

}  // namespace cover::app
