// cover verify runs: where two runs part, in their logs and in their checkpoints.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/checkpoints.h"
#include "app/commands.h"
#include "core/check.h"
#include "nn/safetensors.h"

namespace cover::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::array keys{"loss", "loss_vec", "loss_con", "loss_vec_ratio", "grad_norm", "lr", "valid"};

// One step of a log; a value that is not there, as in a skipped step, is NaN.
using LoggedStep = std::array<double, keys.size()>;

std::map<std::int64_t, LoggedStep> logged_steps(const std::string& folder) {
    const auto path = folder + "/log.jsonl";
    std::ifstream file(path, std::ios::binary);
    require(file.good(), ErrorKind::data, "[verify] ", path, ": cannot be read; a run folder is expected");
    std::map<std::int64_t, LoggedStep> steps;
    for (std::string line; std::getline(file, line);) {
        const auto event = ordered_json::parse(line, nullptr, false);
        if (!event.is_object() || !event.contains("event") || !event.contains("step") ||
            !event["step"].is_number_integer())
            continue;
        if (event["event"] != "step" && event["event"] != "skipped") continue;
        LoggedStep& step = steps[event["step"].get<std::int64_t>()];
        for (std::size_t i = 0; i < keys.size(); ++i) {
            const auto at = event.find(keys[i]);
            step[i] = at != event.end() && at->is_number() ? at->get<double>() : std::nan("");
        }
    }
    return steps;
}

bool same_bits(double a, double b) {
    return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

ordered_json first_difference(const std::map<std::int64_t, LoggedStep>& a, const std::map<std::int64_t, LoggedStep>& b,
                              std::int64_t& common) {
    ordered_json first;
    for (const auto& [step, values] : a) {
        const auto other = b.find(step);
        if (other == b.end()) continue;
        ++common;
        for (std::size_t i = 0; i < keys.size() && first.is_null(); ++i)
            if (!same_bits(values[i], other->second[i]))
                first = {{"step", step}, {"value", keys[i]}, {"a", values[i]}, {"b", other->second[i]}};
    }
    return first;
}

double element(const Tensor& t, std::int64_t i) {
    if (t.dtype() == DType::float64) return t.data<double>()[i];
    if (t.dtype() == DType::bfloat16) return static_cast<float>(t.data<bfloat16>()[i]);
    return t.data<float>()[i];
}

// Null when the two are the same bits.
ordered_json first_difference(const Tensor& a, const Tensor& b) {
    if (a.shape() != b.shape() || a.dtype() != b.dtype())
        return {{"why", text("shapes ", a.shape().to_string(), " and ", b.shape().to_string(), ", types ",
                             name_of(a.dtype()), " and ", name_of(b.dtype()))}};
    if (std::memcmp(a.view().data, b.view().data, a.bytes()) == 0) return {};
    const auto* x = static_cast<const unsigned char*>(a.view().data);
    const auto* y = static_cast<const unsigned char*>(b.view().data);
    const std::size_t size = size_of(a.dtype());
    std::int64_t first = -1, count = 0;
    for (std::int64_t i = 0; i < a.count(); ++i) {
        const auto at = static_cast<std::size_t>(i) * size;
        if (std::memcmp(x + at, y + at, size) == 0) continue;
        if (first < 0) first = i;
        ++count;
    }
    return {{"element", first},
            {"a", element(a, first)},
            {"b", element(b, first)},
            {"elements_that_differ", count},
            {"elements", a.count()}};
}

// The first tensor, in the order of the file, or else the first metadata entry in which two files differ; null when
// they are the same.
ordered_json first_difference(const std::string& a_path, const std::string& b_path) {
    const auto a = read_safetensors(a_path), b = read_safetensors(b_path);
    const auto named = [](const std::string& name, const ordered_json& how) {
        ordered_json out{{"tensor", name}};
        out.update(how);
        return out;
    };
    for (const auto& [name, tensor] : a.tensors) {
        const Tensor* other = b.find(name);
        if (!other) return named(name, {{"why", "only a has it"}});
        if (const auto how = first_difference(tensor, *other); !how.is_null()) return named(name, how);
    }
    for (const auto& t : b.tensors)
        if (!a.find(t.name)) return named(t.name, {{"why", "only b has it"}});
    auto all = a.metadata;
    all.insert(b.metadata.begin(), b.metadata.end());
    for (const auto& entry : all) {
        const auto x = a.metadata.find(entry.first), y = b.metadata.find(entry.first);
        const auto value = [](const auto& at, const Metadata& of) {
            return at == of.end() ? ordered_json() : ordered_json(at->second);
        };
        if (value(x, a.metadata) != value(y, b.metadata))
            return {{"metadata", entry.first}, {"a", value(x, a.metadata)}, {"b", value(y, b.metadata)}};
    }
    return {};
}

struct Comparison {
    std::int64_t steps = 0;  // in common
    std::int64_t a_last = 0, b_last = 0;
    std::vector<std::int64_t> checkpoints;  // in common, those that were compared
    ordered_json step, tensor;              // what differs first; null: nothing
    bool same() const { return step.is_null() && tensor.is_null() && a_last == b_last; }
};

Comparison compare(const std::string& a, const std::string& b) {
    Comparison result;
    const auto a_steps = logged_steps(a), b_steps = logged_steps(b);
    result.a_last = a_steps.empty() ? 0 : a_steps.rbegin()->first;
    result.b_last = b_steps.empty() ? 0 : b_steps.rbegin()->first;
    result.step = first_difference(a_steps, b_steps, result.steps);

    const auto differ = [&](const std::string& file, const ordered_json& at) {
        std::error_code error;
        const auto x = a + "/" + file, y = b + "/" + file;
        const bool in_a = fs::exists(x, error), in_b = fs::exists(y, error);
        if (!in_a && !in_b) return false;
        auto how = in_a && in_b ? first_difference(x, y)
                                : ordered_json{{"why", in_a ? "only a has this file" : "only b has this file"}};
        if (how.is_null()) return false;
        result.tensor = at;
        result.tensor["file"] = file;
        result.tensor.update(how);
        return true;
    };
    const auto b_places = list_checkpoints(b);
    for (const auto& place : list_checkpoints(a)) {
        const bool common = std::any_of(b_places.begin(), b_places.end(),
                                        [&](const CheckpointPlace& other) { return other.step == place.step; });
        if (!common) continue;
        result.checkpoints.push_back(place.step);
        const auto name = "checkpoints/" + fs::path(place.folder).filename().string();
        for (const char* file : {"/model.safetensors", "/state.safetensors"})
            if (differ(name + file, {{"step", place.step}})) return result;
    }
    // Of runs of unlike length the newest weights are those of unlike steps.
    if (result.a_last == result.b_last) differ("model.safetensors", {{"step", result.a_last}});
    require(result.steps > 0 || !result.checkpoints.empty() || result.a_last == result.b_last, ErrorKind::data,
            "[verify] ", a, " and ", b, ": have no step in common");
    return result;
}

std::string sentence_of(const ordered_json& difference) {
    std::string out;
    const auto say = [&](const char* key, const char* before, const char* behind = "") {
        if (!difference.contains(key)) return;
        const auto& value = difference[key];
        out += before + (value.is_string() ? value.get<std::string>() : value.dump()) + behind;
    };
    say("file", ", ");
    say("tensor", ", ");
    say("metadata", ", metadata ");
    say("why", ": ");
    say("value", ", ");
    say("element", ", element ");
    say("a", ": ");
    say("b", " and ");
    say("elements_that_differ", "; ");
    say("elements", " of ", " elements differ");
    return out;
}

}  // namespace

int run(const VerifyRunsOptions& options) {
    const auto result = compare(options.a, options.b);
    if (options.json) {
        const ordered_json out{{"same", result.same()},
                               {"steps_in_common", result.steps},
                               {"last_step_a", result.a_last},
                               {"last_step_b", result.b_last},
                               {"checkpoints_compared", result.checkpoints},
                               {"first_step", result.step},
                               {"first_tensor", result.tensor}};
        std::printf("%s\n", out.dump(1, ' ', false, ordered_json::error_handler_t::replace).c_str());
    } else {
        std::string out = text("steps in common: ", result.steps, "\ncheckpoints in common:");
        for (const auto step : result.checkpoints) out += text(" ", step);
        out += result.checkpoints.empty() ? " none\n" : "\n";
        if (!result.step.is_null())
            out += text("first step that differs: ", result.step["step"].dump(), sentence_of(result.step), "\n");
        if (!result.tensor.is_null())
            out += text("first tensor that differs: step ", result.tensor["step"].dump(), sentence_of(result.tensor),
                        "\n");
        if (result.a_last != result.b_last)
            out += text("a ends at step ", result.a_last, ", b at step ", result.b_last, "\n");
        out += result.same() ? "the same bits\n" : "the runs differ\n";
        std::fputs(out.c_str(), stdout);
    }
    return result.same() ? 0 : static_cast<int>(ErrorKind::verification);
}

}  // namespace cover::app
