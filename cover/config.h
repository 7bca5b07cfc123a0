// The configuration of a training run: one plain struct with the defaults (`cover pretrain --help` prints them). Where
// a default follows from the data, the value here means "not chosen yet" and complete_config() puts the number in; a
// trainer only sees completed ones. How options, presets and files become this struct is the application's business
// (app/config.h).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/shape.h"
#include "kernels/variant.h"
#include "kernels/warp.h"

namespace cover {

enum class Preset : std::uint8_t { none, code, paper };
enum class OptimizerKind : std::uint8_t { adam, sgd };
enum class ScheduleKind : std::uint8_t { constant, cosine };
enum class Precision : std::uint8_t { fp32, tf32, bf16, fp64 };  // fp64: reference rows, for verification only
enum class LimitReach : std::uint8_t { off, redraw, scale };
enum class LossTerms : std::uint8_t { both, vec, con };
// What a run does when a step's loss or gradient norm is not finite.
enum class NonFinitePolicy : std::uint8_t { stop, skip, rollback };
enum class DeviceChoice : std::uint8_t { automatic, cpu, cuda, emulated };

// The type of features: bfloat16, float64, or else float32, for TF32 too.
DType activation_type(Precision precision);

const char* name_of(Preset value);
const char* name_of(OptimizerKind value);
const char* name_of(ScheduleKind value);
const char* name_of(Precision value);
const char* name_of(LimitReach value);
const char* name_of(LossTerms value);
const char* name_of(NonFinitePolicy value);
const char* name_of(DeviceChoice value);
const char* name_of(WarpConvention value);

struct TrainConfig {
    static constexpr double by_dims = -1;  // a range or degree that is chosen by the number of spatial dimensions

    // Data and shapes. Sides are ordered (D, H, W); in 2D D is 1.
    std::vector<std::string> data;  // patch files
    int dims = 0;                   // 2 or 3; 0: from the file
    int in_channels = 0;            // 0: from the file
    // 0: 2/3 of the stored side rounded down to a multiple of 16, at least 16. (0, S, S): S on every axis.
    std::array<std::int64_t, 3> patch{};
    std::int64_t batch = 0;  // 0: 24 in 2D, 2 in 3D
    double holdout = 0;      // share of subjects kept out of training, [0, 1)

    // The network (spec sections 2 to 4).
    std::vector<std::int64_t> channels{32, 64, 128, 256, 512, 256, 128, 64, 32};
    int head_dim = 8;
    std::vector<int> heads{4, 4, 4, 1, 1};  // coarse to fine
    int radius = 2;
    int levels = 5;  // fewer use only the coarsest ones
    WarpConvention warp = WarpConvention::exact;
    std::string init;  // weights file to start from; empty: drawn from the seed

    // Optimisation (spec section 7).
    Preset preset = Preset::none;
    std::int64_t steps = 0;  // 0: 1000, or 100 epochs under the preset `code`
    OptimizerKind optimizer = OptimizerKind::adam;
    double lr = 1e-4;
    ScheduleKind schedule = ScheduleKind::constant;
    std::int64_t warmup = 0;  // steps of linear warm-up
    double weight_decay = 1e-4;
    double clip = 1;  // largest global gradient norm
    double momentum = 0.9;
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    LossTerms loss = LossTerms::both;
    std::uint64_t seed = 0;

    // Views (spec section 6). The four ranges are half-widths before `degree` multiplies them.
    double degree = by_dims;       // 1.5 in 2D, 1 in 3D
    double rotation = by_dims;     // degrees: 20 in 2D, 15 in 3D
    double scale = by_dims;        // around 1: 0.5 in 2D, 0.25 in 3D
    double translation = by_dims;  // of the axis' size: 0.2 in 2D, 0.1 in 3D
    double shear = by_dims;        // degrees: 180/32 in 2D, 10 in 3D
    LimitReach limit_reach = LimitReach::off;
    bool elastic = false;
    double elastic_alpha_max = 1000;                        // pixels
    double elastic_sigma_min = 10, elastic_sigma_max = 13;  // pixels
    bool batch_shared_augmentation = false;
    double noise_sd_max = 0.02;
    double blur_sigma_max = 0.05;  // pixels
    double contrast_min = 0.5, contrast_max = 1.5;
    double brightness_sd = 0.1;
    double inpaint_probability = 0.95;
    int inpaint_max_blocks = 10;

    // How it runs. Numbers change with device, precision and kernel selection, and with on_nonfinite and nonfinite_cap
    // once a step was not finite; with no other of these.
    DeviceChoice device = DeviceChoice::automatic;
    Precision precision = Precision::fp32;
    int threads = 0;  // 0: all cores
    int loader_threads = 2;
    std::vector<std::string> kernel;  // "conv:ROW", each named once
    std::int64_t checkpoint_every = 500;
    int keep = 3;  // checkpoints that stay
    NonFinitePolicy on_nonfinite = NonFinitePolicy::stop;
    std::int64_t nonfinite_cap = 10;  // such steps that are skipped or rolled back before the run stops
};

// What complete_config needs to know of the data.
struct DataFacts {
    int dims = 2;
    int channels = 1;
    std::array<std::int64_t, 3> sides{1, 1, 1};  // stored (D, H, W)
    std::int64_t samples = 1;                    // those that are trained on
};

// Puts a number wherever one follows from the data, then check_config(). Throws Error(configuration) when `dims` or
// `in_channels` contradict the data, or when the patch is larger than the stored sides.
void complete_config(TrainConfig& config, const DataFacts& data);

// The values that data cannot change: sign and range of each, names of each list's length. Throws Error(configuration)
// with a sentence that names the key. Run before a file is opened, so that a slip of the pen costs no time.
void check_config(const TrainConfig& config);

// The `kernel` entries as the tables want them; see selection_of() in kernels/catalogue.h.
KernelSelection kernel_selection(const TrainConfig& config);

// The largest component that the pyramid can express, in pixels of full resolution: 2^(4 - l) * radius summed over its
// levels. Spec section 10: 62 by default.
double pyramid_reach(const TrainConfig& config);

}  // namespace cover
