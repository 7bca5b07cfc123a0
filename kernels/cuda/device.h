// How a build reaches its device: device.cu with the CUDA runtime, ../emulation/device.cpp with the host's memory.
#pragma once

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

// Gives core the device's memory (core/device_memory.h) and returns what rows may assume. Throws Error(device) with a
// sentence where there is no device.
DeviceFacts open_device();
// The one stream on which all launches, copies and clears are queued.
void* device_stream();

}  // namespace cover::cuda::COVER_CUDA_BUILD
