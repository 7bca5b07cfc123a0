// The built program, run as a user would, and small networks for it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cover/model.h"
#include "tests/support.h"

namespace cover::test {

struct Outcome {
    int code = -1;  // 128 and its number after a signal
    std::string out, err;
};

// `arguments` as in a shell; %d stands for the folder. `environment`: "NAME=value ..." for the program alone.
Outcome run_program(const TemporaryFolder& folder, const std::string& arguments, const std::string& environment = "");

// The lines of a log.jsonl, those of one kind of event where it is named.
std::vector<nlohmann::json> events_of(const std::string& path, const std::string& kind = "");

// A patch file of eight images of side x side pixels with a gradient and random spots; side is a multiple of 8.
void write_small_patches(const std::string& path, std::int64_t side);

// A network of drawn weights, no two alike: norms and biases are moved off 1 and 0.
Model small_model(const ModelConfig& config);
// That of few channels.
ModelConfig small_network(int spatial_dims);
// The metadata of a training run on patches of this side.
Metadata small_metadata(const ModelConfig& config, std::int64_t patch, const std::string& preprocessing = "");

}  // namespace cover::test
