#include "app/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "core/check.h"
#include "core/device_memory.h"
#include "cover/trainer.h"
#include "kernels/catalogue.h"
#include "kernels/devices.h"

namespace cover::app {
namespace {

int settled_threads(TrainConfig& config) {
    // Float64 is for verification, by rows that the CPU alone has.
    if (config.device == DeviceChoice::automatic)
        config.device = config.precision != Precision::fp64 && why_unavailable(Device::cuda).empty()
                            ? DeviceChoice::cuda
                            : DeviceChoice::cpu;
    const bool cpu = config.device == DeviceChoice::cpu;
    const bool has_rows = config.precision == Precision::fp32 || (config.precision == Precision::fp64) == cpu;
    require(has_rows, ErrorKind::device, "[device] --precision ", name_of(config.precision),
            ": there are no such kernels for ", name_of(config.device), " yet; take fp32",
            cpu ? ", or a device that has them: --device cuda" : "");
    if (config.threads == 0) config.threads = hardware_threads();
    return config.threads;
}

// A number of kB after `key` in a file of lines "Key:   123 kB".
std::size_t kilobytes(const char* path, const std::string& key) {
    std::ifstream file(path);
    std::string word;
    while (file >> word) {
        if (word == key) {
            std::size_t value = 0;
            file >> value;
            return value * 1024;
        }
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return 0;
}

// The limit of the control group, where there is one: a container's memory, not the host's.
std::size_t group_limit() {
    std::size_t limit = 0, used = 0;
    std::ifstream most("/sys/fs/cgroup/memory.max"), current("/sys/fs/cgroup/memory.current");
    if (!(most >> limit) || !(current >> used)) return std::numeric_limits<std::size_t>::max();
    return limit > used ? limit - used : 0;
}

}  // namespace

Machine::Machine(TrainConfig& config)
    : pool_(settled_threads(config)), selection_(kernel_selection(config)), dtype_(activation_type(config.precision)) {
    const Device device = config.device == DeviceChoice::cuda       ? Device::cuda
                          : config.device == DeviceChoice::emulated ? Device::emulated
                                                                    : Device::cpu;
    stream_ = open_stream(device, pool_);
    stream_.selection = &selection_;
    if (config.precision == Precision::tf32) stream_.math = Math::tf32;
}

std::string kernel_summary(const TrainConfig& config) {
    const auto selection = kernel_selection(config);
    std::string out;
    for (const auto& [op, row] : selection.rows) out += text(out.empty() ? "" : ", ", op, ":", row);
    const auto& facts = machine_facts();
    const bool cpu = config.device == DeviceChoice::cpu || config.device == DeviceChoice::automatic;
    const char* best = !cpu ? name_of(config.device) : facts.avx512 ? "avx512" : facts.avx2 ? "avx2" : "ref";
    return text(out, out.empty() ? "" : ", otherwise ", "the best rows for ", best, fusion_wanted() ? "" : ", unfused");
}

std::size_t peak_process_bytes() { return kilobytes("/proc/self/status", "VmHWM:"); }

std::size_t available_bytes() {
    const auto system = kilobytes("/proc/meminfo", "MemAvailable:");
    return system == 0 ? 0 : std::min(system, group_limit());
}

void check_memory(const char* command, const TrainConfig& config, const std::array<std::int64_t, 3>& stored,
                  int waiting_batches) {
    const double waiting = static_cast<double>(waiting_batches) * static_cast<double>(stored[0]) *
                           static_cast<double>(stored[1]) * static_cast<double>(stored[2]) *
                           static_cast<double>(config.in_channels) * sizeof(float);
    // On a GPU the batches that wait lie in the host's memory, and the rest in the device's.
    const auto on_device = config.device == DeviceChoice::cuda ? device_memory(Device::cuda).available : nullptr;
    const auto needed = [&](std::int64_t batch) {
        TrainConfig tried = config;
        tried.batch = batch;
        return static_cast<double>(estimate_memory(tried, stored)) +
               (on_device ? 0 : static_cast<double>(batch) * waiting);
    };
    const auto available = static_cast<double>(on_device ? on_device() : available_bytes());
    if (available == 0 || needed(config.batch) <= available) return;
    std::int64_t fits = 0, beyond = config.batch;
    while (fits + 1 < beyond) {
        const std::int64_t middle = fits + (beyond - fits) / 2;
        (needed(middle) <= available ? fits : beyond) = middle;
    }
    constexpr double gib = 1 << 30;
    fail(ErrorKind::device,
         fmt::format("[{}] batch {} of this patch, cut from images of {} x {} x {}, needs about {:.1f} GiB and {:.1f} "
                     "GiB are free{}; {}",
                     command, config.batch, stored[0], stored[1], stored[2], needed(config.batch) / gib,
                     available / gib, on_device ? " on the device" : "",
                     fits > 0 ? fmt::format("the largest batch that fits is {}: --batch {}", fits, fits)
                              : "not even a batch of 1 fits: choose a smaller --patch, or store smaller images"));
}

}  // namespace cover::app
