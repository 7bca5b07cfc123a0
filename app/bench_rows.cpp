#include "app/bench_rows.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "app/bench_peaks.h"
#include "core/rng.h"

namespace cover::app {
namespace {

constexpr double rotated_bytes = 200e6;
constexpr std::size_t most_sets = 8;

double wall_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The same numbers again and again: drawing as many as a large map holds would take longer than to time it.
constexpr std::int64_t pattern_count = 1 << 18;

const std::vector<float>& pattern() {
    static const std::vector<float> numbers = [] {
        std::vector<float> drawn(pattern_count);
        const RandomStream random({.seed = 1});
        for (std::int64_t i = 0; i < pattern_count; ++i)
            drawn[static_cast<std::size_t>(i)] = static_cast<float>(random.uniform_at(static_cast<std::uint64_t>(i)));
        return drawn;
    }();
    return numbers;
}

Tensor random_tensor(std::int64_t count, DType dtype, Device device, double low, double high) {
    static std::size_t offset = 0;
    offset += 7919;  // no two operands begin alike
    const std::int64_t first = std::min(count, pattern_count);
    Tensor drawn = Tensor::empty({first}, DType::float32);
    for (std::int64_t i = 0; i < first; ++i)
        drawn.data<float>()[i] =
            static_cast<float>(low + (high - low) * pattern()[(static_cast<std::size_t>(i) + offset) % pattern_count]);
    Tensor tensor = Tensor::empty({count}, dtype, device);
    tensor.slice(0, {first}).copy_from(dtype == DType::float32 ? drawn : drawn.converted(dtype));
    for (std::int64_t filled = first; filled < count;) {
        const std::int64_t more = std::min(filled, count - filled);
        tensor.slice(filled, {more}).copy_from(tensor.slice(0, {more}));
        filled += more;
    }
    return tensor;
}

const char* precision_of(const Timing& t) {
    return t.dtype == DType::bfloat16 ? "bf16" : t.math == Math::tf32 ? "tf32" : "fp32";
}

}  // namespace

std::vector<std::string> names_in(const std::string& list) {
    std::vector<std::string> names;
    std::istringstream in(list);
    for (std::string name; std::getline(in, name, ',');) names.push_back(name);
    return names;
}

Roofs measure_roofs(Stream& stream) {
    Roofs roofs;
    if (stream.device == Device::cpu) {
        roofs.fp32 = roofs.tf32 = roofs.bf16 = fma_peak_gflops(stream);
        roofs.copy = memory_peak_gigabytes(stream);
        return roofs;
    }
    roofs.copy = measure_roof(Roof::copy, stream) / 1e9;
    roofs.fp32 = measure_roof(Roof::fma_fp32, stream) / 1e9;
    roofs.tf32 = measure_roof(Roof::mma_tf32, stream) / 1e9;
    roofs.bf16 = measure_roof(Roof::mma_bf16, stream) / 1e9;
    return roofs;
}

View Operand::operator[](std::size_t i) {
    Tensor& tensor = copies_[i % copies_.size()];
    if (!tensor.defined()) tensor = random_tensor(count_, dtype_, device_, low_, high_);
    return tensor.view();
}

RowTimer::RowTimer(Stream& stream, const BenchOpsOptions& options)
    : stream_(stream),
      options_(options),
      clock_(stream.device),
      roofs_(measure_roofs(stream)),
      started_(wall_seconds()) {}

bool RowTimer::wanted(const std::string& op) const {
    const auto ops = names_in(options_.op);
    return ops.empty() || std::any_of(ops.begin(), ops.end(), [&](const std::string& name) {
               return op == name || op.rfind(name + "_backward", 0) == 0;
           });
}

std::size_t RowTimer::sets_for(double bytes) const {
    if (stream_.device != Device::cuda) return 1;
    return static_cast<std::size_t>(std::clamp(std::ceil(rotated_bytes / bytes), 1.0, static_cast<double>(most_sets)));
}

bool RowTimer::wanted_math(DType dtype, Math math) const {
    if (!on_device()) return math == Math::exact;
    if (options_.precision.empty()) return true;
    return options_.precision == (dtype == DType::bfloat16 ? "bf16" : math == Math::tf32 ? "tf32" : "fp32");
}

std::vector<double> RowTimer::host_seconds(const std::function<void(std::size_t)>& call) const {
    call(0);  // warm-up
    std::vector<double> seconds;
    double spent = 0;
    while (seconds.size() < 3 || spent < options_.seconds) {
        const double start = wall_seconds();
        call(seconds.size());
        seconds.push_back(wall_seconds() - start);
        spent += seconds.back();
        if (spent > 4 * options_.seconds) break;
    }
    return seconds;
}

// Calls are queued one after the other with a moment marked between them, so that launches cost the device no time.
std::vector<double> RowTimer::device_seconds(const std::function<void(std::size_t)>& call) {
    const auto run = [&](std::size_t calls) {
        clock_.mark(0);
        for (std::size_t i = 0; i < calls; ++i) {
            call(i);
            clock_.mark(i + 1);
        }
        std::vector<double> seconds;
        for (std::size_t i = 0; i < calls; ++i) seconds.push_back(clock_.seconds_between(i, i + 1));
        return seconds;
    };
    run(1);  // memory is taken, code is loaded
    const double estimate = std::max(run(1).back(), 1e-6);
    if (estimate > options_.seconds) return {estimate};
    if (estimate < 1e-3) run(most_sets);  // the other sets are drawn when a call first asks for them
    return run(static_cast<std::size_t>(std::clamp(options_.seconds / estimate, 3.0, 100.0)));
}

void RowTimer::measure(Timing& timing, const Work& work, const std::function<void(std::size_t)>& call) {
    if (options_.limit > 0 && wall_seconds() - started_ > options_.limit) {
        ++left_out_;
        return;
    }
    timing.flops = work.flops;
    timing.bytes = work.bytes;
    const double products = !work.matrix                      ? roofs_.fp32
                            : timing.dtype == DType::bfloat16 ? roofs_.bf16
                            : timing.math == Math::tf32       ? roofs_.tf32
                                                              : roofs_.fp32;
    timing.roof_seconds = std::max(work.flops / products, work.bytes / roofs_.copy) / 1e9;
    try {
        std::vector<double> seconds = on_device() ? device_seconds(call) : host_seconds(call);
        std::sort(seconds.begin(), seconds.end());
        timing.repeats = static_cast<int>(seconds.size());
        timing.seconds = seconds[seconds.size() / 2];
        timing.spread = (seconds.back() - seconds.front()) / timing.seconds;
    } catch (const Error& error) {
        if (!on_device()) throw;
        timing.error = error.what();  // of this row alone: the others still have their say
    }
    timings_.push_back(timing);
    if (!options_.json) print(timing);
}

void RowTimer::print(const Timing& t) const {
    std::printf("%-26s %-30s ", t.op.c_str(), t.shape.c_str());
    if (on_device()) {
        std::printf("%-18s %-4s ", t.row.c_str(), precision_of(t));
        if (!t.error.empty())
            std::printf("%s\n", t.error.c_str());
        else if (t.flops > 0)
            std::printf("%9.3f ms  %9.1f GFLOP/s  %5.1f %% of the roof  spread %3.0f %%\n", 1e3 * t.seconds,
                        t.flops / t.seconds / 1e9, 100 * t.roof_seconds / t.seconds, 100 * t.spread);
        else
            std::printf("%9.3f ms  %9.1f GB/s     %5.1f %% of the roof  spread %3.0f %%\n", 1e3 * t.seconds,
                        t.bytes / t.seconds / 1e9, 100 * t.roof_seconds / t.seconds, 100 * t.spread);
    } else if (t.flops > 0) {
        std::printf("%-12s %9.3f ms  %8.1f GFLOP/s  %5.1f %% of FMA   spread %3.0f %%\n", t.row.c_str(),
                    1e3 * t.seconds, t.flops / t.seconds / 1e9, 100 * t.flops / t.seconds / 1e9 / roofs_.fp32,
                    100 * t.spread);
    } else {
        std::printf("%-12s %9.3f ms  %8.1f GB/s     %5.1f %% of memory  spread %3.0f %%\n", t.row.c_str(),
                    1e3 * t.seconds, t.bytes / t.seconds / 1e9, 100 * t.bytes / t.seconds / 1e9 / roofs_.copy,
                    100 * t.spread);
    }
    std::fflush(stdout);
}

nlohmann::ordered_json RowTimer::json() const {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& t : timings_) {
        nlohmann::ordered_json row{{"op", t.op}, {"shape", t.shape}, {"row", t.row}};
        if (on_device()) row["precision"] = precision_of(t);
        if (!t.error.empty()) {
            row["error"] = t.error;
            rows.push_back(row);
            continue;
        }
        row["seconds"] = t.seconds;
        row["spread"] = t.spread;
        if (t.flops > 0)
            row["gflops"] = t.flops / t.seconds / 1e9;
        else
            row["gigabytes_per_second"] = t.bytes / t.seconds / 1e9;
        if (on_device()) {
            row["repeats"] = t.repeats;
            row["flops"] = t.flops;
            row["bytes"] = t.bytes;
            row["percent_of_roof"] = 100 * t.roof_seconds / t.seconds;
        } else if (t.flops > 0) {
            row["percent_of_fma"] = 100 * t.flops / t.seconds / 1e9 / roofs_.fp32;
        } else {
            row["percent_of_memory"] = 100 * t.bytes / t.seconds / 1e9 / roofs_.copy;
        }
        rows.push_back(row);
    }
    return rows;
}

}  // namespace cover::app
