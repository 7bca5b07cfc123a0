#include <algorithm>

#include "app/bench_rows.h"
#include "kernels/augment.h"
#include "kernels/views.h"

namespace cover::app {
namespace {

// The ops that make the views of a batch at full resolution.
class ViewsBench {
public:
    ViewsBench(const TrainConfig& config, RowTimer& timer)
        : timer_(timer),
          stream_(timer.stream()),
          n_(config.batch),
          channels_(std::max(config.in_channels, 1)),
          grid_{config.dims, config.patch[0], config.patch[1], config.patch[2]},
          shape_(grid_.spatial_dims == 2 ? text(n_, " x ", grid_.h, "x", grid_.w, " x ", channels_)
                                         : text(n_, " x ", grid_.d, "x", grid_.h, "x", grid_.w, " x ", channels_)) {}

    void all() {
        cut();
        noise();
        contrast();
        blur();
        blocks();
    }

private:
    Operand real(std::int64_t count, double bytes) const {
        return {timer_, timer_.sets_for(bytes), count, DType::float32, 0, 1};
    }
    template <class Params, class Run, class Call>
    void time(const char* op, std::span<const Variant<Params, Run>> table, const Params& params, const Work& work,
              Call call) {
        timer_.time(op, table, params, DType::float32, shape_, work, call);
    }
    template <class Record>
    Tensor same_for_all(const Record& record) const {
        return records_on<Record>(timer_.device(), std::vector<Record>(static_cast<std::size_t>(n_), record));
    }
    double map() const { return sizeof(float) * static_cast<double>(n_ * grid_.pixels() * channels_); }

    // Images 1.5 times as large as the patch, moved by a tenth of their size.
    void cut() {
        const auto larger = [](std::int64_t side) { return side + side / 2; };
        const bool deep = grid_.spatial_dims == 3;
        const Grid whole{grid_.spatial_dims, deep ? larger(grid_.d) : 1, larger(grid_.h), larger(grid_.w)};
        const CutViewsParams p{n_, n_, whole, grid_, channels_, WarpConvention::exact};
        std::vector<ViewDraw> draws(static_cast<std::size_t>(n_));
        for (std::size_t i = 0; i < draws.size(); ++i) {
            draws[i].sample = static_cast<std::int64_t>(i);
            for (int axis = deep ? 0 : 1; axis < 3; ++axis) {
                draws[i].affine.slope[axis][2] = 0.1;
                draws[i].corner[axis] = 1;
            }
        }
        const Tensor records = records_on<ViewDraw>(timer_.device(), draws);
        const double bytes =
            sizeof(float) * static_cast<double>(4 * p.patch_count() + p.field_count() + p.mask_count());
        auto images = real(p.image_count(), bytes), moving = real(p.patch_count(), bytes),
             fixed = real(p.patch_count(), bytes), field = real(p.field_count(), bytes),
             mask = real(p.mask_count(), bytes);
        Tensor facts = Tensor::empty({2 * n_}, DType::float64, timer_.device());
        time("cut_views", cut_views_table(), p, {0, bytes}, [&](const auto& row, std::size_t i) {
            row.run(moving[i], fixed[i], field[i], mask[i], facts.view(), images[i], ConstView(), records.view(), p,
                    stream_);
        });
    }

    void noise() {
        const NoiseParams p{n_, grid_.pixels() * channels_};
        const Tensor draws = same_for_all(NoiseDraw{});
        auto x = real(p.count(), map());
        time("uniform_noise", uniform_noise_table(), p, {0, map()},
             [&](const auto& row, std::size_t i) { row.run(x[i], draws.view(), p, stream_); });
        const Tensor small = same_for_all(NoiseDraw{.stream = {}, .size = 0.01f});
        time("add_noise", add_noise_table(), p, {0, 2 * map()},
             [&](const auto& row, std::size_t i) { row.run(x[i], small.view(), p, stream_); });
    }

    void contrast() {
        const ContrastParams p{n_, grid_.pixels() * channels_};
        const Tensor draws = same_for_all(ContrastDraw{});
        auto x = real(p.count(), map());
        time("change_contrast", change_contrast_table(), p, {0, 3 * map()},
             [&](const auto& row, std::size_t i) { row.run(x[i], draws.view(), p, stream_); });
    }

    void blur() {
        const GaussianBlurParams p{n_, grid_, channels_, 4, Border::reflect};
        Tensor weights = Tensor::empty({n_ * p.taps()}, DType::float64);
        weights.fill(1.0 / static_cast<double>(p.taps()));
        weights = weights.to(timer_.device());
        auto x = real(p.count(), map());
        time("gaussian_blur", gaussian_blur_table(), p, {0, 2.0 * grid_.spatial_dims * map()},
             [&](const auto& row, std::size_t i) { row.run(x[i], weights.const_view(), p, stream_); });
    }

    // One block of a tenth of each side. Its bytes alone count, though a row may look at every pixel.
    void blocks() {
        const FillBlocksParams p{n_, grid_, channels_, 1};
        const std::int64_t sides[3] = {grid_.d, grid_.h, grid_.w};
        BlockDraw block;
        double pixels = 1;
        for (int axis = 0; axis < 3; ++axis) {
            block.side[axis] = std::max<std::int64_t>(1, sides[axis] / 10);
            pixels *= static_cast<double>(block.side[axis]);
        }
        const Tensor draws = same_for_all(block);
        auto x = real(p.count(), map());
        time("fill_blocks", fill_blocks_table(), p, {0, sizeof(float) * static_cast<double>(n_ * channels_) * pixels},
             [&](const auto& row, std::size_t i) { row.run(x[i], draws.view(), p, stream_); });
    }

    RowTimer& timer_;
    Stream& stream_;
    std::int64_t n_, channels_;
    Grid grid_;
    std::string shape_;
};

}  // namespace

void time_views(const TrainConfig& config, RowTimer& timer) { ViewsBench(config, timer).all(); }

}  // namespace cover::app
