// The table of configuration keys. To add one: a member of TrainConfig with its default, a check in check_config(), and
// a line here.
#include <charconv>
#include <limits>
#include <stdexcept>

#include "app/config.h"
#include "core/check.h"
#include "core/nearest.h"

namespace cover::app {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument(why); }

const std::string& single(const Values& values) {
    if (values.size() != 1) refuse(text("takes one value, not ", values.size()));
    return values.front();
}

template <class T>
T parse_number(const std::string& word) {
    T value{};
    const char* end = word.data() + word.size();
    const auto [at, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc() || at != end)
        refuse("'" + word + "' is no " + (std::is_floating_point_v<T> ? "number" : "whole number"));
    return value;
}

// "a,b" and {"a", "b"} alike.
Values split(const Values& values, char separator) {
    Values parts;
    for (const auto& value : values) {
        std::size_t at = 0;
        for (;;) {
            const auto end = value.find(separator, at);
            parts.push_back(value.substr(at, end - at));
            if (end == std::string::npos) break;
            at = end + 1;
        }
    }
    return parts;
}

std::string quoted(const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
        const auto code = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\')
            out += std::string("\\") + c;
        else if (code < 32 || code == 127) {
            constexpr char digits[] = "0123456789ABCDEF";
            out += std::string("\\u00") + digits[code / 16] + digits[code % 16];
        } else
            out += c;
    }
    return out + '"';
}

template <class T>
std::string list_toml(const std::vector<T>& values) {
    std::string out = "[";
    for (const auto& value : values) {
        if (out.size() > 1) out += ", ";
        if constexpr (std::is_same_v<T, std::string>)
            out += quoted(value);
        else
            out += text(value);
    }
    return out + "]";
}

struct About {
    const char* name;
    const char* placeholder;
    const char* help;
    const char* group;
};

ConfigKey base(const About& about) { return {about.name, about.placeholder, about.help, about.group, {}, {}}; }

// `least`: what the text may say; smaller values of the member mean "not chosen yet".
template <class T>
ConfigKey number(const About& about, T TrainConfig::*member, T least) {
    auto key = base(about);
    key.set = [member, least](TrainConfig& c, const Values& values) {
        const T value = parse_number<T>(single(values));
        if (!(value >= least)) refuse(text("is ", value, "; at least ", least, " is needed"));
        c.*member = value;
    };
    key.toml = [member, least](const TrainConfig& c) {
        if (!(c.*member >= least)) return std::string();
        const auto digits = text(c.*member);
        // TOML's integers have a sign: a larger one goes in as a string.
        if constexpr (std::is_same_v<T, std::uint64_t>)
            if (c.*member > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) return quoted(digits);
        return digits;
    };
    return key;
}

// Any number; check_config() knows its range.
ConfigKey number(const About& about, double TrainConfig::*member) {
    auto key = base(about);
    key.set = [member](TrainConfig& c, const Values& values) { c.*member = parse_number<double>(single(values)); };
    key.toml = [member](const TrainConfig& c) { return text(c.*member); };
    return key;
}

template <class T>
ConfigKey numbers(const About& about, std::vector<T> TrainConfig::*member) {
    auto key = base(about);
    key.set = [member](TrainConfig& c, const Values& values) {
        std::vector<T> parsed;
        for (const auto& word : split(values, ',')) parsed.push_back(parse_number<T>(word));
        c.*member = parsed;
    };
    key.toml = [member](const TrainConfig& c) { return list_toml(c.*member); };
    return key;
}

ConfigKey flag(const About& about, bool TrainConfig::*member) {
    auto key = base(about);
    key.set = [member](TrainConfig& c, const Values& values) {
        const auto& word = single(values);
        if (word != "true" && word != "false") refuse("'" + word + "' is neither true nor false");
        c.*member = word == "true";
    };
    key.toml = [member](const TrainConfig& c) { return std::string(c.*member ? "true" : "false"); };
    return key;
}

template <class E>
ConfigKey choice(const About& about, E TrainConfig::*member, std::vector<E> choices) {
    auto key = base(about);
    key.set = [member, choices](TrainConfig& c, const Values& values) {
        const auto& word = single(values);
        std::vector<std::string> names;
        for (const E value : choices) {
            if (word == name_of(value)) {
                c.*member = value;
                return;
            }
            names.push_back(name_of(value));
        }
        std::string all;
        for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
        refuse("'" + word + "' is none of " + all + nearest_hint(word, names));
    };
    key.toml = [member](const TrainConfig& c) { return quoted(name_of(c.*member)); };
    return key;
}

ConfigKey patch_key() {
    auto key =
        base({"patch", "S|DxHxW", "side of a training patch, or one per axis; multiples of 16 (2/3 of the stored side)",
              "Data and shapes"});
    key.set = [](TrainConfig& c, const Values& values) {
        const auto words = values.size() == 1 ? split(values, 'x') : values;
        std::vector<std::int64_t> sides;
        for (const auto& word : words) {
            sides.push_back(parse_number<std::int64_t>(word));
            if (sides.back() < 1) refuse(text("has the side ", sides.back(), "; sides are positive"));
        }
        if (sides.size() == 1)
            c.patch = {0, sides[0], sides[0]};
        else if (sides.size() == 2)
            c.patch = {1, sides[0], sides[1]};
        else if (sides.size() == 3)
            c.patch = {sides[0], sides[1], sides[2]};
        else
            refuse(text("has ", sides.size(), " sides; one, two (HxW) or three (DxHxW) are expected"));
    };
    key.toml = [](const TrainConfig& c) {
        if (c.patch[1] == 0) return std::string();
        if (c.patch[0] == 0) return text(c.patch[1]);
        return c.dims == 2 ? text("[", c.patch[1], ", ", c.patch[2], "]")
                           : text("[", c.patch[0], ", ", c.patch[1], ", ", c.patch[2], "]");
    };
    return key;
}

ConfigKey strings(const About& about, std::vector<std::string> TrainConfig::*member, bool commas) {
    auto key = base(about);
    key.set = [member, commas](TrainConfig& c, const Values& values) {
        c.*member = commas ? split(values, ',') : values;
    };
    key.toml = [member](const TrainConfig& c) { return list_toml(c.*member); };
    return key;
}

ConfigKey init_key() {
    auto key = base({"init", "FILE", "weights to start from, as `cover export` writes them", "Network"});
    key.set = [](TrainConfig& c, const Values& values) { c.init = single(values); };
    key.toml = [](const TrainConfig& c) { return quoted(c.init); };
    return key;
}

std::vector<ConfigKey> make_keys() {
    using C = TrainConfig;
    const char *data = "Data and shapes", *network = "Network", *training = "Optimisation", *views = "Views",
               *machine = "Machine", *none = "";
    return {
        strings({"data", "FILE.h5", "patch files, as `cover prepare` writes them", data}, &C::data, false),
        number<int>({"dims", "2|3", "spatial dimensions (from the file)", data}, &C::dims, 2),
        number<int>({"in_channels", "N", "channels of an image (from the file)", none}, &C::in_channels, 1),
        patch_key(),
        number<std::int64_t>({"batch", "N", "images per step (24 in 2D, 2 in 3D)", data}, &C::batch, 1),
        number({"holdout", "SHARE", "share of subjects kept out of training, their loss logged (0)", data},
               &C::holdout),

        numbers({"channels", "N,...", "channels of the U-Net's nine blocks, multiples of 8 (32,64,...,512,...,32)",
                 network},
                &C::channels),
        number<int>({"head_dim", "N", "channels per head of the MoV (8)", network}, &C::head_dim, 1),
        numbers({"heads", "N,...", "heads of the five levels, coarse to fine (4,4,4,1,1)", network}, &C::heads),
        number<int>({"radius", "N", "radius of the MoV's window (2)", network}, &C::radius, 1),
        number<int>({"levels", "N", "pyramid levels, the coarsest ones first (5)", network}, &C::levels, 1),
        choice<WarpConvention>(
            {"warp", "exact|reference", "where a warp samples: exactly, or as the authors' code does", network},
            &C::warp, {WarpConvention::exact, WarpConvention::reference}),
        init_key(),

        choice<Preset>({"preset", "code|paper", "the authors' code's settings, or their paper's", training}, &C::preset,
                       {Preset::none, Preset::code, Preset::paper}),
        number<std::int64_t>({"steps", "N", "training steps (1000)", training}, &C::steps, 1),
        choice<OptimizerKind>({"optimizer", "adam|sgd", "optimizer (adam)", training}, &C::optimizer,
                              {OptimizerKind::adam, OptimizerKind::sgd}),
        number({"lr", "X", "learning rate, used as it is (1e-4)", training}, &C::lr),
        choice<ScheduleKind>({"schedule", "constant|cosine", "course of the rate over the steps (constant)", training},
                             &C::schedule, {ScheduleKind::constant, ScheduleKind::cosine}),
        number<std::int64_t>({"warmup", "N", "steps of linear warm-up (0)", training}, &C::warmup, 0),
        number({"weight_decay", "X", "L2 decay, added to the gradient (1e-4)", training}, &C::weight_decay),
        number({"clip", "X", "largest global gradient norm (1)", training}, &C::clip),
        number({"momentum", "X", "of SGD", none}, &C::momentum),
        number({"beta1", "X", "of Adam", none}, &C::beta1),
        number({"beta2", "X", "of Adam", none}, &C::beta2),
        number({"epsilon", "X", "of Adam", none}, &C::epsilon),
        choice<LossTerms>({"loss", "both|vec|con", "terms of the loss (both)", training}, &C::loss,
                          {LossTerms::both, LossTerms::vec, LossTerms::con}),
        number<std::uint64_t>({"seed", "N", "key of every random number (0)", training}, &C::seed, 0),

        number<double>({"degree", "X", "strength of the affine maps (1.5 in 2D, 1 in 3D)", views}, &C::degree, 0),
        number<double>({"rotation", "X", "degrees, before degree", none}, &C::rotation, 0),
        number<double>({"scale", "X", "around 1, before degree", none}, &C::scale, 0),
        number<double>({"translation", "X", "share of the axis, before degree", none}, &C::translation, 0),
        number<double>({"shear", "X", "degrees, before degree", none}, &C::shear, 0),
        choice<LimitReach>({"limit_reach", "redraw|scale|off",
                            "what to do with displacements beyond the pyramid's reach (off)", views},
                           &C::limit_reach, {LimitReach::off, LimitReach::redraw, LimitReach::scale}),
        flag({"elastic", "", "add a smooth random displacement to the affine map", views}, &C::elastic),
        number({"elastic_alpha_max", "X", "pixels", none}, &C::elastic_alpha_max),
        number({"elastic_sigma_min", "X", "pixels", none}, &C::elastic_sigma_min),
        number({"elastic_sigma_max", "X", "pixels", none}, &C::elastic_sigma_max),
        flag({"batch_shared_augmentation", "",
              "one crop corner and one set of appearance strengths per batch, as the "
              "authors' code has it",
              views},
             &C::batch_shared_augmentation),
        number({"noise_sd_max", "X", "", none}, &C::noise_sd_max),
        number({"blur_sigma_max", "X", "pixels", none}, &C::blur_sigma_max),
        number({"contrast_min", "X", "", none}, &C::contrast_min),
        number({"contrast_max", "X", "", none}, &C::contrast_max),
        number({"brightness_sd", "X", "", none}, &C::brightness_sd),
        number({"inpaint_probability", "X", "of one more block", none}, &C::inpaint_probability),
        number<int>({"inpaint_max_blocks", "N", "", none}, &C::inpaint_max_blocks, 0),

        choice<NonFinitePolicy>(
            {"on_nonfinite", "stop|skip|rollback",
             "when a step's numbers are not finite: stop, leave the step out, or go back to the last "
             "checkpoint's weights with the next batch (stop)",
             machine},
            &C::on_nonfinite, {NonFinitePolicy::stop, NonFinitePolicy::skip, NonFinitePolicy::rollback}),
        number<std::int64_t>({"nonfinite_cap", "N", "such steps that a run gets over before it stops (10)", machine},
                             &C::nonfinite_cap, 0),
        choice<DeviceChoice>({"device", "cpu|cuda|emulated", "where to run (the best that is present)", machine},
                             &C::device,
                             {DeviceChoice::automatic, DeviceChoice::cpu, DeviceChoice::cuda, DeviceChoice::emulated}),
        choice<Precision>({"precision", "fp32|tf32|bf16",
                           "storage and arithmetic (fp32); tf32 and bf16 need --device cuda or emulated", machine},
                          &C::precision, {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp64}),
        number<int>({"threads", "N", "threads that compute (all cores)", machine}, &C::threads, 0),
        number<int>(
            {"loader_threads", "N", "threads that read and decode (2); 0: the training thread does it", machine},
            &C::loader_threads, 0),
        strings({"kernel", "OP:ROW", "kernel to use for an op, see `cover info`; may be repeated", machine}, &C::kernel,
                true),
        number<std::int64_t>({"checkpoint_every", "N",
                              "steps between two checkpoints, and two looks at the held-out loss (500)", machine},
                             &C::checkpoint_every, 1),
        number<int>({"keep", "N", "checkpoints that stay, the newest ones (3)", machine}, &C::keep, 1),
    };
}

}  // namespace

std::string ConfigKey::option() const {
    std::string dashed = "--" + name;
    for (auto& c : dashed)
        if (c == '_') c = '-';
    return dashed;
}

const std::vector<ConfigKey>& config_keys() {
    static const std::vector<ConfigKey> keys = make_keys();
    return keys;
}

const ConfigKey* find_key(const std::string& name) {
    for (const auto& key : config_keys())
        if (key.name == name) return &key;
    return nullptr;
}

}  // namespace cover::app
