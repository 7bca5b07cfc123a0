// How a build reaches its device: device.cu with the CUDA runtime, ../emulation/device.cpp with the host's memory.
#pragma once

#include "kernels/cuda/rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

// Gives core the device's memory (core/device_memory.h) and returns what rows may assume. Throws Error(device) with a
// sentence where there is no device.
DeviceFacts open_device();
// The one stream on which all launches, copies and clears are queued.
void* device_stream();
void device_wait();
// Waits for all that is queued on it. False where some of it failed.
bool device_synchronise(void* stream);
// See Library in rows.h.
void mark(std::size_t slot);
double seconds_between(std::size_t from, std::size_t to);
// How its work is recorded; all null where it is not.
const Recorder& device_recorder();
// Names for a profiler's time line.
const Ranges& device_ranges();

}  // namespace cover::cuda::COVER_CUDA_BUILD
