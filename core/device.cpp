#include "core/device.h"

#include <sched.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "core/check.h"

namespace cover {

const char* name_of(Device device) {
    switch (device) {
    case Device::cpu: return "cpu";
    case Device::cuda: return "cuda";
    case Device::emulated: return "emulated";
    }
    return "?";
}

namespace {

DeviceFacts read_facts() {
    DeviceFacts facts;
#if defined(__x86_64__)
    __builtin_cpu_init();
    facts.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    facts.avx512 = facts.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    if (const char* isa = std::getenv("COVER_ISA"); isa && *isa) {
        if (std::strcmp(isa, "reference") == 0)
            facts.avx2 = facts.avx512 = false;
        else if (std::strcmp(isa, "avx2") == 0)
            facts.avx512 = false;
        else
            require(std::strcmp(isa, "avx512") == 0, ErrorKind::usage, "[device] COVER_ISA=", isa,
                    " is not known; use reference, avx2 or avx512");
    }
    return facts;
}

}  // namespace

const DeviceFacts& machine_facts() {
    static const DeviceFacts facts = read_facts();
    return facts;
}

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("model name", 0) == 0)
            if (const auto colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
    return "unknown processor";
}

int hardware_threads() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    return 1;
}

}  // namespace cover
