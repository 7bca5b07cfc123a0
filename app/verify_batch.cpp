// cover verify batch: a step that went wrong, computed again.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/batch_file.h"
#include "app/commands.h"
#include "app/machine.h"
#include "cover/guard.h"
#include "cover/trainer.h"

namespace cover::app {

int run(const VerifyBatchOptions& options) {
    const StoredBatch batch = read_batch(options.file);
    ConfigSources sources = options.config;
    sources.text = batch.config;
    sources.text_source = options.file;
    TrainConfig config = resolve_config(sources);
    const Shape& shape = batch.images.shape();
    complete_config(config, {.dims = config.dims,
                             .channels = static_cast<int>(shape[4]),
                             .sides = {shape[1], shape[2], shape[3]},
                             .samples = shape[0]});
    Machine machine(config);

    // A weight that is not finite is the finding itself, not a file that cannot be used.
    std::optional<NonFinite> found;
    for (const auto& weight : batch.weights)
        if (!found && !weight.tensor.all_finite()) found = NonFinite{"weight", weight.name, {}};
    StepResult result;
    if (!found) {
        Model model(model_config(config), machine.dtype(), machine.device());
        std::vector<NamedTensor> weights;
        for (const auto& weight : batch.weights)
            weights.push_back({weight.name, weight.tensor.converted(real_type(machine.dtype()))});
        model.load(weights, options.file);
        Views views = make_views(batch.images, batch.keys, config, machine.stream());
        for (Tensor* tensor : {&views.images, &views.field, &views.mask})
            *tensor = tensor->converted(real_type(machine.dtype()));
        found = find_non_finite(model, views, config.loss, machine.stream());
        if (!found) result = forward_backward(model, views, config.loss, machine.stream());
    }

    std::string samples;
    if (found)
        for (const std::int64_t at : found->samples)
            samples += text(samples.empty() ? "" : ", ", batch.keys[static_cast<std::size_t>(at)].sample);
    if (options.json) {
        nlohmann::ordered_json out{{"step", batch.step}, {"finite", !found}};
        if (found) {
            out["tensor"] = found->tensor;
            out["layer"] = found->layer;
            out["samples"] = nlohmann::ordered_json::array();
            for (const std::int64_t at : found->samples)
                out["samples"].push_back(batch.keys[static_cast<std::size_t>(at)].sample);
        } else {
            out["loss"] = result.loss;
        }
        std::printf("%s\n", out.dump(1).c_str());
    } else {
        std::printf("the run said: %s\n", batch.found.c_str());
        if (found)
            std::printf("step %lld again, %s: not finite first in the %s%s%s\n", static_cast<long long>(batch.step),
                        name_of(config.precision), found->place().c_str(), samples.empty() ? "" : ", sample ",
                        samples.c_str());
        else
            std::printf("step %lld again, %s: everything is finite, loss %g\n", static_cast<long long>(batch.step),
                        name_of(config.precision), result.loss);
    }
    return found ? static_cast<int>(ErrorKind::numerical) : 0;
}

}  // namespace cover::app
