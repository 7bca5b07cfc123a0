#include <cstdint>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    cover::fuzz::COVER_FUZZ_TARGET(data, size);
    return 0;
}
