// The device, threads and kernels that a configuration asks for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/parallel.h"
#include "cover/config.h"

namespace cover::app {

class Machine {
public:
    // Settles `device` and `threads` in the configuration: device auto becomes cuda where a GPU and CUDA rows are there
    // and the precision is not fp64, else cpu; threads 0 become all cores. Throws Error(device) on a device or
    // precision that this build or machine does not have, never taking another instead.
    explicit Machine(TrainConfig& config);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    Stream& stream() { return stream_; }
    Device device() const { return stream_.device; }
    DType dtype() const { return dtype_; }  // of features

private:
    ThreadPool pool_;
    KernelSelection selection_;
    DType dtype_;
    Stream stream_;
};

// What a file of kernel selections says of itself: "conv:cpu_avx2, ...", the defaults included.
std::string kernel_summary(const TrainConfig& config);

// Largest resident size of this process so far, and what the system could still give it, in bytes; 0 when unknown.
std::size_t peak_process_bytes();
std::size_t available_bytes();

// Before anything of a training step is allocated: throws Error(device) with the largest batch that fits when the step
// and `waiting_batches` batches of stored images do not fit the memory that is free. command: "pretrain"; config:
// completed; stored: sides (D, H, W) in the file.
void check_memory(const char* command, const TrainConfig& config, const std::array<std::int64_t, 3>& stored,
                  int waiting_batches);

}  // namespace cover::app
