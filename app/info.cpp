// cover info: the program and the machine, or what a file or a run folder holds.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/checkpoints.h"
#include "app/commands.h"
#include "app/machine.h"
#include "app/version.h"
#include "core/check.h"
#include "data/patches.h"
#include "kernels/catalogue.h"
#include "kernels/devices.h"
#include "kernels/vendor/plugin.h"
#include "nn/safetensors.h"

namespace cover::app {
namespace {

using nlohmann::ordered_json;

// Nested objects and lists of objects are indented, everything else is a line "name: value".
void print(const ordered_json& object, const std::string& indent = "") {
    for (const auto& [name, value] : object.items()) {
        if (value.is_object()) {
            std::printf("%s%s\n", indent.c_str(), name.c_str());
            print(value, indent + "  ");
        } else if (value.is_string()) {
            std::printf("%s%s: %s\n", indent.c_str(), name.c_str(), value.get<std::string>().c_str());
        } else {
            std::printf("%s%s: %s\n", indent.c_str(), name.c_str(), value.dump().c_str());
        }
    }
}

std::string row_text(const RowFacts& row) {
    std::string note = row.dtype == DType::float32 ? "" : name_of(row.dtype);
    if (row.math == Math::tf32) note = "tf32";
    if (row.device != Device::cpu) note += (note.empty() ? "" : ", ") + std::string(name_of(row.device));
    return note.empty() ? row.name : text(row.name, " (", note, ")");
}

std::string devices() {
    const std::string reason = why_unavailable(Device::cuda);
    return "cpu, emulated, " + (reason.empty() ? std::string("cuda") : text("no cuda: ", reason));
}

ordered_json about_program() {
    const auto& facts = machine_facts();
    std::string sets;
    if (facts.avx2) sets += "avx2";
    if (facts.avx512) sets += " avx512";
    ordered_json rows;
    for (const auto& op : kernel_catalogue()) {
        std::string names;
        for (const auto& row : op.rows) names += (names.empty() ? "" : ", ") + row_text(row);
        rows[op.op] = names;
    }
    return {{"version", version()},
            {"build", build_description()},
            {"processor", processor_name()},
            {"threads", hardware_threads()},
            {"instruction_sets", sets.empty() ? "none that the kernels use" : sets},
            {"memory_available", fmt::format("{:.1f} GiB", static_cast<double>(available_bytes()) / (1 << 30))},
            {"devices", devices()},
            {"libraries", COVER_LIBRARIES},
            {"vendor_cudnn", vendor::find(vendor::Library::cudnn).where},
            {"vendor_cublas", vendor::find(vendor::Library::cublas).where},
            {"kernels", rows}};
}

bool is_hdf5(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    // The signature stands at 0 or, behind a user block, at 512, 1024, 2048 ...
    for (std::streamoff at = 0; at < (1 << 20); at = at == 0 ? 512 : 2 * at) {
        char bytes[8] = {};
        if (!file.seekg(at) || !file.read(bytes, 8)) return false;
        if (std::string(bytes, 8) == "\x89HDF\r\n\x1a\n") return true;
    }
    return false;
}

ordered_json about_hdf5(const std::string& path) {
    const auto file = H5File::open(path);
    if (file.has_group("/weights") && file.has_group("/input"))
        return {{"kind", "golden file"}, {"file", path}, {"dimensions", file.string("/", "dimensions")}};
    const auto patches = PatchFile::open({path}, {.sequential = true});
    const Grid grid = patches.grid();
    const auto shape =
        grid.spatial_dims == 2 ? text(grid.h, " x ", grid.w) : text(grid.d, " x ", grid.h, " x ", grid.w);
    ordered_json out{{"kind", "patch file"},
                     {"file", path},
                     {"samples", patches.sample_count()},
                     {"dims", grid.spatial_dims},
                     {"sides", shape},
                     {"channels", patches.channels()},
                     {"type", patches.type(0).name()},
                     {"spacing", patches.spacing()}};
    if (const auto* labels = file.find("/labels")) out["labels"] = labels->type.name();
    if (const auto& json = patches.preprocessing(); !json.empty()) out["preprocessing"] = json;
    return out;
}

ordered_json about_weights(const std::string& path) {
    const auto header = read_safetensors_header(path);
    std::int64_t elements = 0;
    for (const auto& entry : header.entries) elements += entry.shape.count();
    ordered_json out{{"kind", "weights"}, {"file", path}, {"tensors", header.entries.size()}, {"elements", elements}};
    out["metadata"] = ordered_json::object();
    for (const auto& [key, value] : header.metadata) out["metadata"][key] = value;
    out["shapes"] = ordered_json::object();
    for (const auto& entry : header.entries) out["shapes"][entry.name] = entry.dtype + " " + entry.shape.to_string();
    return out;
}

ordered_json about_checkpoint(const std::string& folder) {
    const auto checkpoint = read_checkpoint({0, folder});
    ordered_json out{{"kind", "checkpoint"}, {"folder", folder}};
    for (const auto& [key, value] : checkpoint.manifest.items())
        if (key != "checkpoint" && key != "files") out[key] = value;
    out["state"] = ordered_json::object();
    for (const auto& [key, value] : checkpoint.state.metadata) out["state"][key] = value;
    out["files"] = checkpoint.manifest["files"];
    out["whole"] = true;  // or read_checkpoint() would have said what is not
    return out;
}

ordered_json about_run(const std::string& folder) {
    std::ifstream log(folder + "/log.jsonl");
    require(log.good(), ErrorKind::data, "[info] ", folder, ": is a folder without log.jsonl, no run of this program");
    ordered_json out{{"kind", "run"}, {"folder", folder}};
    ordered_json last_step, last;
    for (std::string line; std::getline(log, line);) {
        auto event = ordered_json::parse(line, nullptr, false);
        if (event.is_discarded() || !event.is_object() || !event.contains("event")) continue;
        if (event["event"] == "start") out["start"] = event;
        if (event["event"] == "step") last_step = event;
        last = std::move(event);
    }
    if (!last_step.is_null()) out["last_step"] = last_step;
    out["ended"] = last.is_object() && last["event"] == "stop" ? last.value("why", "") : "not yet, or was killed";
    std::error_code error;
    out["checkpoints"] = ordered_json::array();
    for (const auto& place : list_checkpoints(folder)) out["checkpoints"].push_back(place.step);
    out["weights"] = std::filesystem::exists(folder + "/model.safetensors", error) ? "model.safetensors" : "none yet";
    return out;
}

ordered_json about(const std::string& path) {
    if (path.empty()) return about_program();
    std::error_code error;
    require(std::filesystem::exists(path, error), ErrorKind::io, "[info] ", path, ": there is no such file or folder");
    if (std::filesystem::exists(path + "/state.safetensors", error)) return about_checkpoint(path);
    if (std::filesystem::is_directory(path, error)) return about_run(path);
    return is_hdf5(path) ? about_hdf5(path) : about_weights(path);
}

}  // namespace

int run(const TextOptions& options) {
    std::fputs(options.text.c_str(), stdout);
    return 0;
}

int run(const InfoOptions& options) {
    const auto facts = about(options.file);
    if (options.json)
        std::printf("%s\n", facts.dump(1, ' ', false, ordered_json::error_handler_t::replace).c_str());
    else
        print(facts);
    return 0;
}

}  // namespace cover::app
