// SHA-256 (FIPS 180-4): names data, weights and runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace cover {

class Sha256 {
public:
    void update(const void* data, std::size_t bytes);
    // 64 hexadecimal digits; the object must not be used afterwards.
    std::string hex();

private:
    void block(const unsigned char* data);

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<unsigned char, 64> buffer_{};
    std::size_t filled_ = 0;
    std::uint64_t total_ = 0;
};

// Of a whole file. Throws Error(io) when it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace cover
