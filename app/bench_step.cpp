// cover bench step: a training step on random images, timed as a run would do it, without reading a file.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/batch_stage.h"
#include "app/commands.h"
#include "app/machine.h"
#include "core/check.h"
#include "cover/trainer.h"

namespace cover::app {
namespace {

// Sides as `prepare` stores them: one and a half times the patch.
DataFacts facts_for(TrainConfig& config) {
    if (config.dims == 0) config.dims = config.patch[0] > 1 ? 3 : 2;
    const bool plane = config.dims == 2;
    if (config.patch[1] == 0) config.patch = {0, plane ? 128 : 48, plane ? 128 : 48};
    if (config.patch[0] == 0) config.patch[0] = plane ? 1 : config.patch[1];
    if (config.batch == 0) config.batch = plane ? 4 : 1;
    DataFacts facts;
    facts.dims = config.dims;
    facts.channels = std::max(config.in_channels, 1);
    facts.samples = config.batch;
    for (std::size_t axis = plane ? 1 : 0; axis < 3; ++axis) facts.sides[axis] = config.patch[axis] * 3 / 2;
    return facts;
}

Tensor random_images(const TrainConfig& config, const DataFacts& facts) {
    Tensor images =
        Tensor::empty({config.batch, facts.sides[0], facts.sides[1], facts.sides[2], facts.channels}, DType::float32);
    const RandomStream random({.seed = config.seed});
    for (std::int64_t i = 0; i < images.count(); ++i)
        images.data<float>()[i] = random.uniform_at(static_cast<std::uint64_t>(i));
    return images;
}

std::string shape_text(const TrainConfig& config) {
    return config.dims == 2 ? text(config.patch[1], "x", config.patch[2])
                            : text(config.patch[0], "x", config.patch[1], "x", config.patch[2]);
}

struct Cost {
    std::string name;  // "conv:cpu_avx2"; "views and the rest" is what no kernel accounts for
    double seconds = 0, bytes = 0;
    double calls = 0;
};

// Per step, the dearest first.
std::vector<Cost> costs_of(const KernelProfile& profile, double step_seconds, double steps) {
    std::vector<Cost> costs;
    double known = 0;
    for (const auto& [name, entry] : profile.entries) {
        costs.push_back({name, entry.seconds / steps, entry.bytes / steps, static_cast<double>(entry.calls) / steps});
        known += costs.back().seconds;
    }
    costs.push_back({"outside of kernels", std::max(step_seconds - known, 0.0), 0, 0});
    std::stable_sort(costs.begin(), costs.end(), [](const Cost& a, const Cost& b) { return a.seconds > b.seconds; });
    return costs;
}

}  // namespace

int run(const BenchStepOptions& options) {
    TrainConfig config = resolve_config(options.config);
    const DataFacts facts = facts_for(config);
    Machine machine(config);
    require(machine.dtype() != DType::float64, ErrorKind::configuration,
            "[bench step] precision: fp64 is for verification only; take fp32");
    config.steps = options.steps + 2;
    complete_config(config, facts);
    check_memory("bench step", config, facts.sides, 1);

    const Tensor images = random_images(config, facts);
    std::vector<SampleKey> keys;
    for (std::int64_t b = 0; b < config.batch; ++b) keys.push_back({0, static_cast<std::uint32_t>(b)});
    Trainer trainer(config, machine.stream());
    // On a device every step brings its images there, beside the step before, as a run does.
    BatchStage stage(
        [&images] {
            Batch batch;
            batch.images = images;
            return batch;
        },
        machine.device(), images.shape());
    KernelProfile profile;
    std::vector<double> seconds;
    double profiled_seconds = 0;
    constexpr int warm_up = 2;
    for (int step = 0; step < warm_up + options.steps; ++step) {
        for (auto& key : keys) key.epoch = static_cast<std::uint32_t>(step);
        machine.stream().profile = options.profile && step >= warm_up ? &profile : nullptr;
        const auto start = std::chrono::steady_clock::now();
        trainer.step(stage.next().images, keys);
        const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (step < warm_up) continue;
        seconds.push_back(taken);
        profiled_seconds += taken;
    }
    std::sort(seconds.begin(), seconds.end());
    const std::size_t middle = seconds.size() / 2;
    const double median = seconds.size() % 2 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2;
    const bool device = machine.device() != Device::cpu;
    const auto memory = memory_statistics(machine.device());
    const auto peak = device ? memory.peak : peak_process_bytes();
    const auto costs =
        options.profile ? costs_of(profile, profiled_seconds / options.steps, options.steps) : std::vector<Cost>();

    if (options.json) {
        nlohmann::ordered_json out{{"dims", config.dims},
                                   {"patch", shape_text(config)},
                                   {"batch", config.batch},
                                   {"threads", config.threads},
                                   {"device", name_of(config.device)},
                                   {"precision", name_of(config.precision)},
                                   {"kernels", kernel_summary(config)},
                                   {"processor", processor_name()},
                                   {"steps", options.steps},
                                   {"seconds", median},
                                   {"seconds_min", seconds.front()},
                                   {"seconds_max", seconds.back()},
                                   {"peak_bytes", peak},
                                   {"peak_process_bytes", peak_process_bytes()},
                                   {"estimated_bytes", estimate_memory(config, facts.sides)}};
        if (device) {
            out["device_name"] = machine.stream().facts->name;
            out["held_bytes"] = memory.held;
        }
        for (const auto& cost : costs)
            out["profile"].push_back(
                {{"op", cost.name}, {"calls", cost.calls}, {"seconds", cost.seconds}, {"bytes", cost.bytes}});
        std::printf("%s\n", out.dump(1).c_str());
        return 0;
    }
    std::printf("%dD, patch %s, batch %lld, %d threads, %s, %s\n", config.dims, shape_text(config).c_str(),
                static_cast<long long>(config.batch), config.threads, name_of(config.precision),
                device ? machine.stream().facts->name.c_str() : processor_name().c_str());
    std::printf("median %.4f s per step (least %.4f, most %.4f, %d steps), %.1f images/s, peak memory %.1f MiB%s\n",
                median, seconds.front(), seconds.back(), options.steps, static_cast<double>(config.batch) / median,
                static_cast<double>(peak) / (1 << 20), device ? " of the device" : "");
    for (const auto& cost : costs)
        std::printf("  %-44s %8.2f ms %5.1f %%  %6.1f calls  %8.1f MB  %6.1f GB/s\n", cost.name.c_str(),
                    1e3 * cost.seconds, 100 * cost.seconds / (profiled_seconds / options.steps), cost.calls,
                    cost.bytes / 1e6, cost.bytes > 0 ? cost.bytes / 1e9 / cost.seconds : 0.0);
    return 0;
}

}  // namespace cover::app
