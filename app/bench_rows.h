// What `cover bench ops` times rows with: operands on the device, the clock, and the roofs that a row is set against.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "app/options.h"
#include "core/tensor.h"
#include "cover/config.h"
#include "kernels/device_timing.h"
#include "kernels/variant.h"

namespace cover::app {

// The parts between commas.
std::vector<std::string> names_in(const std::string& list);

// Billions of operations or bytes a second, measured in the same run. On the CPU all three rates of products are that
// of its FMA loop.
struct Roofs {
    double copy = 0, fp32 = 0, tf32 = 0, bf16 = 0;
};
Roofs measure_roofs(Stream& stream);

struct Timing {
    std::string op, shape, row;
    DType dtype = DType::float32;
    Math math = Math::exact;
    int repeats = 0;
    double seconds = 0, spread = 0;  // median; (largest - least) / median
    double flops = 0, bytes = 0;     // of one call
    double roof_seconds = 0;         // of a call at the roof
    std::string error{};             // why it did not run; then there are no numbers
};

// What one call does. matrix: whether units that multiply matrices could do it; flops 0: bytes alone matter.
struct Work {
    double flops = 0, bytes = 0;
    bool matrix = false;
};

class RowTimer {
public:
    RowTimer(Stream& stream, const BenchOpsOptions& options);

    Stream& stream() { return stream_; }
    Device device() const { return stream_.device; }
    const Roofs& roofs() const { return roofs_; }
    bool on_device() const { return stream_.device != Device::cpu; }
    const std::vector<Timing>& timings() const { return timings_; }
    // One object per timing.
    nlohmann::ordered_json json() const;
    // Rows that the options' limit left out.
    int left_out() const { return left_out_; }
    bool wanted(const std::string& op) const;
    // On a device rows are timed in three rounds, should a limit of time cut off the last: a vendor's library tries
    // many plans for each shape, and the first rung of a ladder takes a second for what the last does in a millisecond.
    enum class Round : std::uint8_t { own, vendor, naive };
    void take(Round round) { round_ = round; }
    // How many sets of operands take turns, so that no call finds its own in a GPU's cache.
    std::size_t sets_for(double bytes) const;

    // Times each row of the table for activations of `dtype`; call(row, i) runs one on the i-th set of operands.
    template <class Params, class Run, class Call>
    void time(const char* op, std::span<const Variant<Params, Run>> table, const Params& params, DType dtype,
              const std::string& shape, const Work& work, Call call) {
        if (!wanted(op)) return;
        // On a device a shape that the network has twice is timed once.
        if (on_device() && !seen_.insert(text(static_cast<int>(round_), op, "/", shape, "/", name_of(dtype))).second)
            return;
        for (const auto& row : table) {
            if (row.device != stream_.device || row.dtype != dtype || !wanted_math(dtype, row.math)) continue;
            if (!options_.row.empty() && options_.row != row.name) continue;
            if (on_device() && round_of(row.name, row.by_name_only) != round_) continue;
            if (!row.can_run(params, *stream_.facts)) continue;
            Timing timing{op, shape, row.name, dtype, row.math};
            stream_.math = row.math;
            measure(timing, work, [&](std::size_t i) { call(row, i); });
            stream_.math = Math::exact;
        }
    }

private:
    static Round round_of(const std::string& name, bool by_name_only) {
        if (by_name_only) return Round::vendor;
        return name.ends_with("_naive") ? Round::naive : Round::own;
    }
    bool wanted_math(DType dtype, Math math) const;
    void measure(Timing& timing, const Work& work, const std::function<void(std::size_t)>& call);
    std::vector<double> host_seconds(const std::function<void(std::size_t)>& call) const;
    std::vector<double> device_seconds(const std::function<void(std::size_t)>& call);
    void print(const Timing& timing) const;

    Stream& stream_;
    const BenchOpsOptions& options_;
    DeviceClock clock_;
    Roofs roofs_;
    double started_;
    std::vector<Timing> timings_;
    std::set<std::string> seen_;
    Round round_ = Round::own;
    int left_out_ = 0;
};

// Random numbers of a range on the timer's device, in as many copies as take turns; memory is taken when first asked
// for.
class Operand {
public:
    Operand(const RowTimer& timer, std::size_t sets, std::int64_t count, DType dtype, double low = -1, double high = 1)
        : device_(timer.device()), count_(count), dtype_(dtype), low_(low), high_(high), copies_(sets) {}
    View operator[](std::size_t i);

private:
    Device device_;
    std::int64_t count_;
    DType dtype_;
    double low_, high_;
    std::vector<Tensor> copies_;
};

// The ops that make views, float32: their part of the list.
void time_views(const TrainConfig& config, RowTimer& timer);

}  // namespace cover::app
