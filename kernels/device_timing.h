// Times taken by a device itself, and the loops that say how fast it can be: what rows are timed with and set against.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/device.h"

namespace cover {

struct Stream;

// copy: reads and writes memory once. The others do nothing but multiply and add: in float32, or as the products of
// matrices that mma.sync takes, with operands rounded to TF32 or bfloat16. wgmma, on Hopper, does more than these.
enum class Roof : std::uint8_t { copy, fma_fp32, mma_tf32, mma_bf16 };

// Moments on a stream of a CUDA or the emulated device, in numbered slots that may be used again.
class DeviceClock {
public:
    explicit DeviceClock(Device device) : device_(device) {}
    // The moment at which the device has done all that was queued so far.
    void mark(std::size_t slot);
    // Waits until both are reached.
    double seconds_between(std::size_t from, std::size_t to);

private:
    Device device_;
};

// The best of several runs: FLOP/s, or for copy bytes/s, counting those read and those written.
double measure_roof(Roof roof, Stream& stream);

}  // namespace cover
