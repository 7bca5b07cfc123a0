// From a device's name to a stream on which kernels run.
#pragma once

#include "kernels/variant.h"

namespace cover {

// Opens the device on the first call. `pool` serves the CPU's rows, and the emulation's blocks; it must outlive the
// stream. Throws Error(device) with a sentence where the build has no kernels for the device or the machine has no such
// device.
Stream open_stream(Device device, ThreadPool& pool);

// The reason why open_stream(device) would throw; empty when it would not.
std::string why_unavailable(Device device);

}  // namespace cover
