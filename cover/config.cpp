#include "cover/config.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "kernels/catalogue.h"

namespace cover {
namespace {

void choose(double& value, bool plane, double in_2d, double in_3d) {
    if (value == TrainConfig::by_dims) value = plane ? in_2d : in_3d;
}

void check(bool ok, const char* key, const std::string& why) {
    require(ok, ErrorKind::configuration, "[config] ", key, ": ", why);
}

void check_at_least(const char* key, double value, double least) {
    check(std::isfinite(value) && value >= least, key, text("is ", value, "; at least ", least, " is needed"));
}

void check_between(const char* key, double value, double low, double high) {
    check(value >= low && value <= high, key, text("is ", value, "; a value from ", low, " to ", high, " is needed"));
}

void check_range(const char* key, double value) {
    check(value == TrainConfig::by_dims || (std::isfinite(value) && value >= 0), key,
          text("is ", value, "; a finite value of at least 0 is needed"));
}

}  // namespace

const char* name_of(Preset value) {
    switch (value) {
    case Preset::none: return "none";
    case Preset::code: return "code";
    case Preset::paper: return "paper";
    }
    return "?";
}
const char* name_of(OptimizerKind value) { return value == OptimizerKind::adam ? "adam" : "sgd"; }
const char* name_of(ScheduleKind value) { return value == ScheduleKind::constant ? "constant" : "cosine"; }
DType activation_type(Precision precision) {
    return precision == Precision::bf16   ? DType::bfloat16
           : precision == Precision::fp64 ? DType::float64
                                          : DType::float32;
}

const char* name_of(Precision value) {
    switch (value) {
    case Precision::fp32: return "fp32";
    case Precision::tf32: return "tf32";
    case Precision::bf16: return "bf16";
    case Precision::fp64: return "fp64";
    }
    return "?";
}
const char* name_of(NonFinitePolicy value) {
    switch (value) {
    case NonFinitePolicy::stop: return "stop";
    case NonFinitePolicy::skip: return "skip";
    case NonFinitePolicy::rollback: return "rollback";
    }
    return "?";
}
const char* name_of(LimitReach value) {
    switch (value) {
    case LimitReach::off: return "off";
    case LimitReach::redraw: return "redraw";
    case LimitReach::scale: return "scale";
    }
    return "?";
}
const char* name_of(LossTerms value) {
    switch (value) {
    case LossTerms::both: return "both";
    case LossTerms::vec: return "vec";
    case LossTerms::con: return "con";
    }
    return "?";
}
const char* name_of(DeviceChoice value) {
    switch (value) {
    case DeviceChoice::automatic: return "auto";
    case DeviceChoice::cpu: return "cpu";
    case DeviceChoice::cuda: return "cuda";
    case DeviceChoice::emulated: return "emulated";
    }
    return "?";
}
const char* name_of(WarpConvention value) { return value == WarpConvention::exact ? "exact" : "reference"; }

void check_config(const TrainConfig& c) {
    check(c.dims == 0 || c.dims == 2 || c.dims == 3, "dims", text("is ", c.dims, "; 2 or 3 is needed"));
    check_at_least("in_channels", c.in_channels, 0);
    for (const auto side : c.patch)
        check(side >= 0 && side <= (1 << 20), "patch", text("has the side ", side, "; sides are positive"));
    check(c.batch >= 0 && c.batch <= (1 << 20), "batch", text("is ", c.batch, "; at least 1 is needed"));
    check(c.holdout >= 0 && c.holdout < 1, "holdout",
          text("is ", c.holdout, "; a share from 0 up to, but not including, 1 is needed"));

    check(c.channels.size() == 9, "channels",
          text("has ", c.channels.size(), " numbers; nine are needed, as in 32,64,128,256,512,256,128,64,32"));
    for (const auto n : c.channels)
        check(n >= 8 && n % 8 == 0 && n <= (1 << 16), "channels",
              text("has ", n, "; each is a multiple of 8, the size of a group of the group norm"));
    check(c.heads.size() == 5, "heads",
          text("has ", c.heads.size(), " numbers; five are needed, coarse to fine, as in 4,4,4,1,1"));
    for (const int n : c.heads) check_between("heads", n, 1, 1024);
    check_between("head_dim", c.head_dim, 1, 1024);
    check_between("radius", c.radius, 1, 64);
    check_between("levels", c.levels, 1, 5);

    check_at_least("steps", static_cast<double>(c.steps), 0);
    check_at_least("warmup", static_cast<double>(c.warmup), 0);
    check(std::isfinite(c.lr) && c.lr > 0, "lr", text("is ", c.lr, "; a positive rate is needed"));
    check_at_least("weight_decay", c.weight_decay, 0);
    check(std::isfinite(c.clip) && c.clip > 0, "clip", text("is ", c.clip, "; a positive norm is needed"));
    for (const auto& [key, value] :
         {std::pair{"momentum", c.momentum}, std::pair{"beta1", c.beta1}, std::pair{"beta2", c.beta2}})
        check(value >= 0 && value < 1, key,
              text("is ", value, "; a value from 0 up to, but not including, 1 is needed"));
    check(std::isfinite(c.epsilon) && c.epsilon > 0, "epsilon", text("is ", c.epsilon, "; it is positive"));

    check_range("degree", c.degree);
    check_range("rotation", c.rotation);
    check_range("scale", c.scale);
    check_range("translation", c.translation);
    check_range("shear", c.shear);
    check_at_least("elastic_alpha_max", c.elastic_alpha_max, 0);
    check(std::isfinite(c.elastic_sigma_max) && c.elastic_sigma_min > 0 && c.elastic_sigma_min <= c.elastic_sigma_max,
          "elastic_sigma_min",
          text("is ", c.elastic_sigma_min, " and elastic_sigma_max ", c.elastic_sigma_max,
               "; a positive range is needed"));
    check_at_least("noise_sd_max", c.noise_sd_max, 0);
    check_at_least("blur_sigma_max", c.blur_sigma_max, 0);
    check(std::isfinite(c.contrast_min) && std::isfinite(c.contrast_max) && c.contrast_min <= c.contrast_max,
          "contrast_min", text("is ", c.contrast_min, " and contrast_max ", c.contrast_max, "; a range is needed"));
    check_at_least("brightness_sd", c.brightness_sd, 0);
    check_between("inpaint_probability", c.inpaint_probability, 0, 1);
    check_between("inpaint_max_blocks", c.inpaint_max_blocks, 0, 1000);

    check_between("threads", c.threads, 0, 4096);
    check_between("loader_threads", c.loader_threads, 0, 256);
    check_at_least("checkpoint_every", static_cast<double>(c.checkpoint_every), 1);
    check_between("keep", c.keep, 1, 1'000'000);
    kernel_selection(c);
}

void complete_config(TrainConfig& c, const DataFacts& data) {
    check_config(c);
    require(c.dims == 0 || c.dims == data.dims, ErrorKind::configuration, "[config] dims: is ", c.dims,
            ", but the data has ", data.dims, " spatial dimensions; leave it out to take the data's");
    require(c.in_channels == 0 || c.in_channels == data.channels, ErrorKind::configuration, "[config] in_channels: is ",
            c.in_channels, ", but the images have ", data.channels, "; leave it out to take the data's");
    c.dims = data.dims;
    c.in_channels = data.channels;
    const bool plane = c.dims == 2;

    if (!plane && c.patch[0] == 0) c.patch[0] = c.patch[1];
    const bool preset_shapes = plane && c.preset != Preset::none;
    for (std::size_t axis = plane ? 1 : 0; axis < 3; ++axis)
        if (c.patch[axis] == 0)
            c.patch[axis] = preset_shapes ? 384 : std::max<std::int64_t>(data.sides[axis] * 2 / 3 / 16 * 16, 16);
    if (plane) {
        check(c.patch[0] <= 1, "patch", "has three sides, but the data is two-dimensional");
        c.patch[0] = 1;
    }
    for (std::size_t axis = plane ? 1 : 0; axis < 3; ++axis) {
        check(c.patch[axis] % 16 == 0, "patch",
              text("has the side ", c.patch[axis], "; four poolings by two need a multiple of 16"));
        check(c.patch[axis] <= data.sides[axis], "patch",
              text("has the side ", c.patch[axis], ", larger than the ", data.sides[axis],
                   " that is stored; choose a smaller patch or prepare larger images"));
    }
    if (c.batch == 0) c.batch = plane ? 24 : 2;
    if (c.steps == 0) {
        const auto hundred_epochs = (100 * data.samples + c.batch - 1) / c.batch;
        c.steps = c.preset == Preset::code ? std::max<std::int64_t>(hundred_epochs, 1) : 1000;
    }

    choose(c.degree, plane, 1.5, 1);
    choose(c.rotation, plane, 20, 15);
    choose(c.scale, plane, 0.5, 0.25);
    choose(c.translation, plane, 0.2, 0.1);
    choose(c.shear, plane, 180.0 / 32, 10);
    check(c.degree * c.scale < 1, "degree",
          text("is ", c.degree, "; times the scale range ", c.scale,
               " it allows a scale of zero or less; keep the product below 1"));
}

KernelSelection kernel_selection(const TrainConfig& config) { return selection_of(config.kernel); }

double pyramid_reach(const TrainConfig& config) {
    double reach = 0;
    for (int level = 0; level < config.levels; ++level) reach += static_cast<double>((16 >> level) * config.radius);
    return reach;
}

}  // namespace cover
