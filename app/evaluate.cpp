// cover evaluate: how well trained weights do, without labels.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/evaluation.h"
#include "app/machine.h"
#include "app/weights.h"
#include "core/check.h"
#include "cover/trainer.h"
#include "data/patches.h"

namespace cover::app {
namespace {

// What the user named replaces what the weights say.
void apply_options(TrainConfig& config, const ConfigSources& options) {
    const TrainConfig asked = resolve_config(options);
    config.device = asked.device;
    config.precision = asked.precision;
    config.threads = asked.threads;
    config.kernel = asked.kernel;
    for (const auto& [key, values] : options.options) {
        if (key == "degree") config.degree = asked.degree;
        if (key == "patch") config.patch = asked.patch;
    }
}

}  // namespace

Evaluation evaluate(const std::string& weights, const std::vector<std::string>& data, std::int64_t pairs,
                    std::uint64_t seed, const ConfigSources& options) {
    const auto path = weights_path(weights);
    const auto file = read_safetensors(path);
    require(!is_backbone_only(file), ErrorKind::data, "[evaluate] ", path,
            ": holds the backbone alone and cannot predict displacements; export the run with --part all");
    TrainConfig config = config_from_metadata(file.metadata, path);
    apply_options(config, options);
    config.seed = seed;
    const auto patches = PatchFile::open(data);
    const Grid grid = patches.grid();
    require(patches.spatial_dims() == config.dims && patches.channels() == config.in_channels, ErrorKind::data,
            "[evaluate] ", data.front(), ": has ", patches.spatial_dims(), "D images of ", patches.channels(),
            " channels, the weights were trained on ", config.dims, "D images of ", config.in_channels);
    config.batch = std::min<std::int64_t>(pairs, config.dims == 2 ? 4 : 1);
    complete_config(config, {config.dims, config.in_channels, {grid.d, grid.h, grid.w}, patches.sample_count()});

    Machine machine(config);
    require(machine.dtype() != DType::float64, ErrorKind::configuration,
            "[evaluate] precision: fp64 is for `cover verify` only; take fp32");
    const ModelConfig network = model_config(config);
    check_size(file, network, path);
    Model model(network, machine.dtype(), machine.device());
    model.load(file.tensors, path);
    Evaluator evaluator(model, config, machine.stream());
    const std::int64_t each = grid.pixels() * patches.channels();
    for (std::int64_t from = 0; from < pairs; from += config.batch) {
        const std::int64_t count = std::min(config.batch, pairs - from);
        Tensor images = Tensor::empty({count, grid.d, grid.h, grid.w, patches.channels()}, DType::float32);
        std::vector<SampleKey> keys;
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t sample = (from + i) % patches.sample_count();
            patches.read_sample(sample, images.data<float>() + i * each);
            keys.push_back(
                {static_cast<std::uint32_t>((from + i) / patches.sample_count()), static_cast<std::uint32_t>(sample)});
        }
        evaluator.add(images, keys);
    }
    return evaluator.result();
}

int run(const EvaluateOptions& options) {
    const Evaluation e = evaluate(options.weights, options.data, options.pairs, options.seed, options.config);
    if (options.json) {
        nlohmann::ordered_json similarity;
        for (std::size_t k = 0; k < e.similarity.size(); ++k)
            similarity[text(similarity_distances[k])] = e.similarity[k];
        const nlohmann::ordered_json out{{"epe", e.epe},
                                         {"epe_ratio", e.epe_ratio},
                                         {"loss_vec_ratio", e.loss_vec_ratio},
                                         {"consistency", e.consistency},
                                         {"similarity", similarity},
                                         {"beyond_reach", e.beyond_reach},
                                         {"pairs", e.pairs},
                                         {"valid_pixels", e.valid_pixels}};
        std::printf("%s\n", out.dump(1).c_str());
        return 0;
    }
    std::string out = fmt::format("epe {:.4f}\nepe_ratio {:.4f}\nloss_vec_ratio {:.4f}\nconsistency {:.5f}\n", e.epe,
                                  e.epe_ratio, e.loss_vec_ratio, e.consistency);
    for (std::size_t k = 0; k < e.similarity.size(); ++k)
        if (std::isfinite(e.similarity[k]))
            out += fmt::format("similarity_{} {:.4f}\n", similarity_distances[k], e.similarity[k]);
    out += fmt::format("beyond_reach {:.4f}\npairs {}\n", e.beyond_reach, e.pairs);
    std::fputs(out.c_str(), stdout);
    return 0;
}

}  // namespace cover::app
