// Where tensors live and what the machine can do. Facts are plain data, so that a test can ask what any machine would
// pick.
#pragma once

#include <cstdint>
#include <string>

namespace cover {

enum class Device : std::uint8_t { cpu, cuda, emulated };

const char* name_of(Device device);

struct DeviceFacts {
    bool avx2 = false;           // AVX2 and FMA, and an operating system that saves their registers
    bool avx512 = false;         // AVX-512 F, BW, DQ and VL, likewise
    int compute_capability = 0;  // 90 for sm_90; 0 without a CUDA device
    std::int64_t shared_memory_per_block = 0;
    std::string name{};  // of a device, as its driver calls it
};

// Read from CPUID once. COVER_ISA=reference|avx2|avx512 in the environment lowers them (it cannot raise them).
const DeviceFacts& machine_facts();
// The processor's own name, or "unknown processor".
std::string processor_name();
int hardware_threads();

}  // namespace cover
