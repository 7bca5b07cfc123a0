#include "app/config.h"

#include <toml++/toml.h>

#include <cstdlib>
#include <stdexcept>

#include "core/check.h"
#include "core/file.h"
#include "core/nearest.h"

namespace cover::app {
namespace {

struct Entry {
    std::string key;
    Values values;
    std::string source;  // "run.toml", "--set", "--weight-decay"
    ErrorKind kind;      // of a value that cannot be read
};

std::string value_text(const toml::node& node, const Entry& entry) {
    if (const auto* v = node.as_string()) return v->get();
    if (const auto* v = node.as_integer()) return text(static_cast<long long>(v->get()));
    if (const auto* v = node.as_floating_point()) return text(v->get());
    if (const auto* v = node.as_boolean()) return v->get() ? "true" : "false";
    fail(ErrorKind::configuration, text("[config] ", entry.source, ": ", entry.key,
                                        ": a number, a string, true, false or a list of these is expected"));
}

void read_toml(const std::string& bytes, const std::string& path, std::vector<Entry>& entries) {
    toml::table table;
    try {
        table = toml::parse(bytes, path);
    } catch (const toml::parse_error& error) {
        fail(ErrorKind::configuration,
             text("[config] ", path, ": line ", error.source().begin.line, ": ", std::string(error.description())));
    }
    for (const auto& [name, node] : table) {
        Entry entry{std::string(name), {}, path, ErrorKind::configuration};
        if (const auto* list = node.as_array()) {
            for (const auto& item : *list) entry.values.push_back(value_text(item, entry));
        } else if (find_key(entry.key)) {
            entry.values = {value_text(node, entry)};
        }
        entries.push_back(std::move(entry));
    }
}

void apply_preset(TrainConfig& config, Preset preset) {
    if (preset == Preset::none) return;
    // Patch 384 and batch 24 in 2D, and the number of steps under `code`, need the data: complete_config().
    config.degree = 1.5;
    if (preset == Preset::code) {
        config.lr = 9.375e-6;
    } else {
        config.optimizer = OptimizerKind::sgd;
        config.momentum = 0.9;
        config.lr = 1e-4;
        config.steps = 200000;
    }
}

void apply(TrainConfig& config, const Entry& entry) {
    const auto* key = find_key(entry.key);
    if (!key) {
        std::vector<std::string> names;
        for (const auto& known : config_keys()) names.push_back(known.name);
        fail(ErrorKind::configuration,
             text("[config] ", entry.source, ": there is no key '", entry.key, "'", nearest_hint(entry.key, names)));
    }
    try {
        key->set(config, entry.values);
    } catch (const std::invalid_argument& error) {
        const bool option = entry.kind == ErrorKind::usage;
        const std::string why = error.what();
        std::string form;
        if (why.find(';') == std::string::npos) {
            if (!option)
                form = text("; expected: ", key->is_flag() ? "true or false" : key->placeholder);
            else
                form = text("; write ", entry.source, key->is_flag() ? "=true or =false" : " " + key->placeholder);
        }
        fail(entry.kind, option ? text("[config] ", entry.source, ": ", why, form)
                                : text("[config] ", entry.source, ": ", entry.key, ": ", why, form));
    }
}

}  // namespace

TrainConfig resolve_config(const ConfigSources& sources) {
    std::vector<Entry> entries;
    if (!sources.run.empty()) read_toml(read_file(sources.run, std::uint64_t{1} << 20), sources.run, entries);
    if (const char* rows = std::getenv("COVER_KERNEL"); rows && *rows)
        entries.push_back({"kernel", {rows}, "COVER_KERNEL", ErrorKind::configuration});
    if (!sources.text.empty()) read_toml(sources.text, sources.text_source, entries);
    if (!sources.file.empty()) read_toml(read_file(sources.file, std::uint64_t{1} << 20), sources.file, entries);
    for (const auto& setting : sources.settings) {
        const auto equals = setting.find('=');
        require(equals != std::string::npos && equals > 0, ErrorKind::configuration, "[config] --set ", setting,
                ": expected key=value, as in --set momentum=0.8");
        entries.push_back({setting.substr(0, equals), {setting.substr(equals + 1)}, "--set", ErrorKind::configuration});
    }
    for (const auto& [key, values] : sources.options) {
        const auto* known = find_key(key);
        entries.push_back({key, values, known ? known->option() : key, ErrorKind::usage});
    }

    TrainConfig chosen;
    for (const auto& entry : entries)
        if (entry.key == "preset") apply(chosen, entry);
    TrainConfig config;
    apply_preset(config, chosen.preset);
    for (const auto& entry : entries) apply(config, entry);
    check_config(config);
    return config;
}

std::string config_toml(const TrainConfig& config) {
    std::string out = "# Every setting of this run; `cover pretrain --config` takes this file.\n";
    std::string group;
    for (const auto& key : config_keys()) {
        const auto value = key.toml(config);
        if (value.empty()) continue;
        if (!key.group.empty() && key.group != group) {
            group = key.group;
            out += "\n# " + group + "\n";
        }
        out += key.name + " = " + value + "\n";
    }
    return out;
}

}  // namespace cover::app
