#include "app/report_build.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/config.h"
#include "app/holdout.h"
#include "app/machine.h"
#include "app/progress.h"
#include "app/report_study.h"
#include "app/weights.h"
#include "core/check.h"
#include "core/file.h"
#include "core/hash.h"
#include "cover/trainer.h"

namespace cover::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool exists(const std::string& path) {
    std::error_code error;
    return fs::exists(path, error);
}

std::string folder_name(const std::string& folder) {
    std::error_code error;
    auto path = fs::weakly_canonical(folder, error);
    if (error) path = folder;
    return path.filename().string();
}

// The manifest of a run, read with care: a value of another type counts as missing.
class Manifest {
public:
    Manifest(const std::string& run, std::vector<std::string>& notes) {
        const std::string path = run + "/manifest.json";
        if (!exists(path)) {
            notes.push_back("manifest.json is missing: program, machine and data hash are not known.");
            return;
        }
        object_ = json::parse(read_file(path, std::uint64_t{1} << 22), nullptr, false);
        if (!object_.is_object()) {
            notes.push_back("manifest.json is damaged: program, machine and data hash are not known.");
            object_ = json::object();
        }
    }
    std::string words(const char* key) const { return words(object_, key); }
    std::string data_words(const char* key) const { return words(data(), key); }
    std::string data_list(const char* key, const char* between) const {
        std::string out;
        const json list = data().value(key, json::array());
        if (!list.is_array()) return out;
        for (const auto& item : list) out += (out.empty() ? "" : between) + plain(item);
        return out;
    }
    std::vector<std::string> strings(const char* key) const {
        std::vector<std::string> out;
        const auto at = object_.find(key);
        if (at == object_.end() || !at->is_array()) return out;
        for (const auto& item : *at)
            if (item.is_string()) out.push_back(item.get<std::string>());
        return out;
    }

private:
    const json& data() const {
        static const json none = json::object();
        const auto at = object_.find("data");
        return at != object_.end() && at->is_object() ? *at : none;
    }
    static std::string words(const json& object, const char* key) {
        const auto at = object.find(key);
        if (at == object.end()) return "";
        return plain(*at);
    }
    static std::string plain(const json& value) {
        if (value.is_number()) return fmt::format("{:.12g}", value.get<double>());
        return value.is_string() ? value.get<std::string>() : "";
    }
    json object_ = json::object();
};

std::string patch_text(const TrainConfig& config) {
    return config.dims == 2 ? text(config.patch[1], " x ", config.patch[2])
                            : text(config.patch[0], " x ", config.patch[1], " x ", config.patch[2]);
}

std::string joined(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
    return out;
}

std::string steps_text(std::int64_t count) { return text(count, count == 1 ? " step" : " steps"); }

// Middle of the values of one column; NaN without any.
double median_of(const std::vector<StepPoint>& steps, double StepPoint::*value) {
    std::vector<double> values;
    for (const auto& step : steps)
        if (std::isfinite(step.*value)) values.push_back(step.*value);
    if (values.empty()) return std::nan("");
    const auto middle = values.begin() + static_cast<long>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

void add(FactTable& table, const std::string& name, const std::string& value) {
    if (!value.empty()) table.rows.emplace_back(name, value);
}

FactTable data_facts(const Manifest& manifest, const TrainConfig& config) {
    FactTable table{"Data", {}};
    const auto files = manifest.data_list("files", ", ");
    add(table, "Patch files", files.empty() ? joined(config.data) : files);
    const auto samples = manifest.data_words("samples"), held = manifest.data_words("heldout");
    if (!samples.empty())
        add(table, "Samples", text(samples, ", of which ", held.empty() ? "0" : held, " held out of training"));
    const auto shape = manifest.data_list("shape", " x ");
    if (!shape.empty())
        add(table, "Stored size",
            shape + (config.dims == 2 ? " pixels" : " voxels") + ", channels: " + manifest.data_words("channels") +
                ", " + manifest.data_words("type"));
    const auto spacing = manifest.data_list("spacing", " x ");
    add(table, "Spacing", spacing.empty() ? "" : spacing + " mm; 1 where the file says nothing");
    add(table, "Patch", patch_text(config) + (config.dims == 2 ? " pixels" : " voxels"));
    add(table, "SHA-256 of the data", manifest.words("data_hash"));
    return table;
}

// "7,881,712"
std::string grouped(std::string digits) {
    if (digits.find_first_not_of("0123456789") != std::string::npos) return digits;
    for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
    return digits;
}

FactTable program_facts(const Manifest& manifest, const TrainConfig& config, const RunLog& log) {
    FactTable table{"Program and machine", {}};
    const auto build = manifest.words("build"), parameters = manifest.words("parameters");
    add(table, "Program", manifest.words("program") + (build.empty() ? "" : " (" + build + ")"));
    add(table, "Processor", manifest.words("processor"));
    add(table, "Device", text(name_of(config.device), ", ", config.threads, " threads, ", name_of(config.precision)));
    add(table, "Kernels", manifest.words("kernels"));
    add(table, "Network",
        parameters.empty() ? text(config.dims, "D") : text(config.dims, "D, ", grouped(parameters), " parameters"));
    if (log.peak_bytes > 0)
        add(table, "Memory", fmt::format("{:.2f} GiB at the peak", static_cast<double>(log.peak_bytes) / (1 << 30)));
    return table;
}

FactTable run_facts(const TrainConfig& config, const RunLog& log) {
    FactTable table{"Run", {}};
    add(table, "Steps",
        fmt::format("{} of {}, batch {}", log.steps.empty() ? 0 : log.steps.back().step, config.steps, config.batch));
    add(table, "Ended", log.ended.empty() ? "not yet, or was killed" : log.ended);
    const double step = median_of(log.steps, &StepPoint::seconds), wait = median_of(log.steps, &StepPoint::wait);
    if (log.run_seconds > 0) add(table, "Time", duration_text(log.run_seconds));
    if (step > 0)
        add(table, "A step",
            fmt::format("{:.3g} s (median), {:.3g} {} per second; {:.1f} % of it waiting for data", step,
                        static_cast<double>(config.batch) / step, config.dims == 2 ? "images" : "volumes", 100 * wait));
    add(table, "Steps skipped, samples redrawn", text(log.skipped, ", ", log.redrawn));
    if (log.nonfinite + log.rollbacks + log.outliers > 0)
        add(table, "Numerical guard",
            text(log.nonfinite, " steps not finite, ", log.rollbacks, " rollbacks, ", log.outliers,
                 " outliers of loss or gradient norm"));
    if (log.checkpoints > 0 || log.resumed > 0)
        add(table, "Checkpoints, resumes", text(log.checkpoints, ", ", log.resumed));
    if (log.failed_checkpoints > 0) add(table, "Checkpoints that could not be written", text(log.failed_checkpoints));
    if (log.beyond_reach >= 0)
        add(table, "Beyond the pyramid's reach",
            fmt::format("{:.1f} % of the valid {} have a true displacement of more than {:g} along an axis",
                        100 * log.beyond_reach, config.dims == 2 ? "pixels" : "voxels", pyramid_reach(config)));
    return table;
}

std::vector<FactTable> setting_tables(const TrainConfig& config) {
    const std::string without_option = "Keys without an option";
    std::vector<FactTable> tables;
    for (const auto& key : config_keys()) {
        const auto value = key.toml(config);
        if (value.empty()) continue;
        const std::string group = key.group.empty() ? without_option : key.group;
        auto at = std::find_if(tables.begin(), tables.end(), [&](const FactTable& t) { return t.title == group; });
        if (at == tables.end()) at = tables.insert(tables.end(), FactTable{group, {}});
        at->rows.emplace_back(key.name, value);
    }
    std::stable_partition(tables.begin(), tables.end(), [&](const FactTable& t) { return t.title != without_option; });
    return tables;
}

// The rows that the run was computed with where this machine has them, else its own. A run on another device is shown
// by the CPU, which every machine has.
std::unique_ptr<Machine> machine_for(TrainConfig& config, int threads, std::vector<std::string>& notes) {
    if (threads > 0) config.threads = threads;
    if (config.device != DeviceChoice::cpu && config.device != DeviceChoice::automatic) {
        config.device = DeviceChoice::cpu;
        config.precision = Precision::fp32;
        config.kernel.clear();
    }
    try {
        return std::make_unique<Machine>(config);
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::device && error.kind() != ErrorKind::configuration) throw;
        notes.push_back(
            text("Scores and pictures were computed with the kernels of this machine, not those of the run: ",
                 error.what()));
    }
    config.device = DeviceChoice::cpu;
    config.precision = Precision::fp32;
    config.kernel.clear();
    return std::make_unique<Machine>(config);
}

struct Images {
    PatchFile patches;
    std::vector<std::int64_t> samples;
    std::string origin;
};

std::vector<std::int64_t> all_samples(const PatchFile& patches) {
    std::vector<std::int64_t> samples;
    for (std::int64_t i = 0; i < patches.sample_count(); ++i) samples.push_back(i);
    return samples;
}

Images open_images(const ReportSource& source, const Manifest& manifest, const TrainConfig& config,
                   std::vector<std::string>& notes) {
    const std::string things = config.dims == 2 ? "images" : "volumes";
    const auto apart = manifest.strings("report_data");
    if (source.data.empty() && !apart.empty()) {
        auto patches = PatchFile::open(apart);
        auto samples = all_samples(patches);
        return {std::move(patches), std::move(samples), things + " that the training never saw, of " + joined(apart)};
    }
    auto patches = PatchFile::open(source.data.empty() ? config.data : source.data);
    if (source.check_data && !manifest.words("data_hash").empty()) {
        const auto hash = patches.content_hash();
        if (hash != manifest.words("data_hash")) {
            notes.push_back(text("The data is not what the run was trained on: its SHA-256 is ", hash,
                                 ". Scores and pictures below are of all that is there now."));
            auto samples = all_samples(patches);
            return {std::move(patches), std::move(samples), things + " of other data than the run's"};
        }
    }
    const Split split = split_by_subject(patches, config);
    const bool held = !split.heldout.empty();
    return {std::move(patches), held ? split.heldout : split.training,
            held ? things + " held out of training" : things + " that were trained on: nothing was held out"};
}

// Scores and pictures. Returns why there are none; empty when there are.
void add_study(RunReport& report, const ReportSource& source, const Manifest& manifest, TrainConfig config) {
    const std::string path = source.weights.empty() ? source.run + "/model.safetensors" : weights_path(source.weights);
    if (source.weights.empty() && !exists(path)) {
        report.notes.push_back("The run has saved no weights yet: there are no scores and no pictures.");
        return;
    }
    const bool named = !source.weights.empty() || !source.data.empty();
    try {
        const auto file = read_safetensors(path);
        require(!is_backbone_only(file), ErrorKind::data, "[report] ", path,
                ": holds the backbone alone and cannot predict displacements");
        const Images images = open_images(source, manifest, config, report.notes);
        const Grid grid = images.patches.grid();
        complete_config(config, {images.patches.spatial_dims(),
                                 images.patches.channels(),
                                 {grid.d, grid.h, grid.w},
                                 static_cast<std::int64_t>(images.samples.size())});
        const auto machine = machine_for(config, source.threads, report.notes);
        const ModelConfig network = model_config(config);
        check_size(file, network, path);
        Model model(network);
        model.load(file.tensors, path);
        study(report, {model, config, images.patches, images.samples}, machine->stream());
        report.sample_origin = images.origin;
        auto& table = report.facts.back();
        add(table, "Scores and pictures", images.origin);
        add(table, "Weights shown",
            text(source.weights.empty() ? "model.safetensors of the run" : source.weights, ", SHA-256 ",
                 sha256_of_file(path)));
    } catch (const Error& error) {
        if (named || (error.kind() != ErrorKind::data && error.kind() != ErrorKind::io &&
                      error.kind() != ErrorKind::configuration))
            throw;
        report.notes.push_back(text("There are no scores and no pictures: ", error.what(),
                                    ". Where the data was moved, name it: cover report --data FILE.h5."));
    }
}

}  // namespace

RunReport build_report(const ReportSource& source) {
    const auto& run = source.run;
    require(exists(run), ErrorKind::io, "[report] ", run, ": there is no such folder");
    for (const char* name : {"config.toml", "log.jsonl"})
        require(exists(run + "/" + name), ErrorKind::data, "[report] ", run, ": has no ", name,
                " and is no run folder of this program; name the folder that `cover pretrain --out` wrote");
    ConfigSources sources;
    sources.run = run + "/config.toml";
    const TrainConfig config = resolve_config(sources);

    RunReport report;
    report.log = read_run_log(run + "/log.jsonl");
    report.notes = report.log.notes;
    const Manifest manifest(run, report.notes);
    report.dims = config.dims;
    report.clip = config.clip;
    report.steps_planned = config.steps;
    report.title = "COVER pretraining: " + folder_name(run);
    report.facts = {data_facts(manifest, config), program_facts(manifest, config, report.log),
                    run_facts(config, report.log)};
    report.settings = setting_tables(config);
    const auto& steps = report.log.steps;
    report.summary = fmt::format("{} of {} {}, patch {}.", steps_text(steps.empty() ? 0 : steps.back().step),
                                 config.batch, config.dims == 2 ? "images" : "volumes", patch_text(config));
    if (!steps.empty())
        report.summary += fmt::format(
            " Over the last 25 steps the predicted displacement misses the true one by {:.3f} of what predicting no "
            "displacement would miss (loss_vec_ratio).",
            mean_of_last(steps, &StepPoint::loss_vec_ratio));
    add_study(report, source, manifest, config);
    return report;
}

RunReport write_report(const std::string& run) {
    RunReport report = build_report({.run = run, .weights = "", .data = {}, .threads = 0, .check_data = false});
    write_file(run + "/report.html", render_report(report));
    for (const auto& note : report.notes) std::fprintf(stderr, "[report] %s\n", note.c_str());
    return report;
}

}  // namespace cover::app
