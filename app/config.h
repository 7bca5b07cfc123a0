// How a TrainConfig comes about: defaults < preset < config.toml of a run that goes on < COVER_KERNEL (of `kernel`
// alone) < file < --set < option. One table of keys serves the TOML file, --set, the options of `pretrain` and `bench
// step`, and the config.toml that a run writes.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cover/config.h"

namespace cover::app {

using Values = std::vector<std::string>;

struct ConfigKey {
    std::string name;         // "weight_decay"; its option is --weight-decay
    std::string placeholder;  // of the value in --help: "N", "adam|sgd"; empty: a flag
    std::string help;
    std::string group;  // heading in --help; empty: there is no option, only the key
    // Takes the value as text. Throws std::invalid_argument with the end of a sentence ("is no number").
    std::function<void(TrainConfig&, const Values&)> set;
    // The right-hand side in TOML; empty where the value is unset and the key is left out.
    std::function<std::string(const TrainConfig&)> toml;

    std::string option() const;  // "--weight-decay"
    bool is_flag() const { return placeholder.empty(); }
};

const std::vector<ConfigKey>& config_keys();
// Null when there is none.
const ConfigKey* find_key(const std::string& name);

struct ConfigSources {
    std::string file;                                     // --config; empty: none
    std::vector<std::string> settings;                    // --set, each "key=value"
    std::vector<std::pair<std::string, Values>> options;  // key and value of each option that was given
    std::string text{}, text_source{};                    // TOML from elsewhere, read first, and where it came from
    std::string run{};                                    // config.toml of a run that goes on, under all the others
};

// The outcome is checked by check_config() but not completed: what follows from the data is still open. Throws
// Error(configuration) on an unknown key (naming the nearest), a value that cannot be read or is out of range, or TOML
// that is no TOML; Error(usage) on an option whose value cannot be read; Error(io) when the file cannot be opened.
TrainConfig resolve_config(const ConfigSources& sources);

// The text of config.toml: every key of a completed configuration, grouped and commented. resolve_config() of it gives
// the same configuration.
std::string config_toml(const TrainConfig& config);

}  // namespace cover::app
