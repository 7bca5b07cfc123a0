#include "kernels/device_timing.h"

#include <algorithm>

#include "kernels/cuda/rows.h"

namespace cover {
namespace {

const cuda::Library& library_of(Device device) {
    require(device != Device::cpu, ErrorKind::internal, "[device timing] the CPU has no such clock");
    return device == Device::cuda ? cuda::native::library() : cuda::emulated::library();
}

// Bytes to copy, or rounds of the loop: a millisecond or so of an H100; in emulation a look at whether it runs.
std::int64_t size_of(Roof roof, Device device) {
    if (device != Device::cuda) return roof == Roof::copy ? 1 << 16 : 1;
    return roof == Roof::copy ? std::int64_t{1} << 29 : 128;
}

}  // namespace

void DeviceClock::mark(std::size_t slot) { library_of(device_).mark(slot); }

double DeviceClock::seconds_between(std::size_t from, std::size_t to) {
    return library_of(device_).seconds_between(from, to);
}

double measure_roof(Roof roof, Stream& stream) {
    const auto& library = library_of(stream.device);
    const auto size = size_of(roof, stream.device);
    const int runs = stream.device == Device::cuda ? 10 : 2;
    double best = 0;
    for (int run = 0; run < runs; ++run) {
        library.mark(0);
        const double work = library.roof(roof, size, stream);
        library.mark(1);
        best = std::max(best, work / library.seconds_between(0, 1));
    }
    return best;
}

}  // namespace cover
