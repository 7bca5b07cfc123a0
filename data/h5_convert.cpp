#include <bit>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "data/h5.h"

namespace cover {

namespace {

// Bits of one element in the machine's order.
template <class Bits>
Bits load(const unsigned char* p, bool swap) {
    Bits bits;
    std::memcpy(&bits, p, sizeof bits);
    if constexpr (sizeof(Bits) == 2) return swap ? __builtin_bswap16(bits) : bits;
    if constexpr (sizeof(Bits) == 4) return swap ? __builtin_bswap32(bits) : bits;
    if constexpr (sizeof(Bits) == 8) return swap ? __builtin_bswap64(bits) : bits;
    return bits;
}

double half_to_double(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const int mantissa = bits & 1023;
    double value;
    if (exponent == 31)
        value = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        value = std::ldexp(mantissa, -24);
    else
        value = std::ldexp(1024 + mantissa, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

// Calls store(i, value) for every element; one loop per type.
template <class Bits, class Value, class Store>
void each(const unsigned char* bytes, std::int64_t count, bool swap, Store store) {
    for (std::int64_t i = 0; i < count; ++i)
        store(i, static_cast<double>(
                     std::bit_cast<Value>(load<Bits>(bytes + i * static_cast<std::int64_t>(sizeof(Bits)), swap))));
}

template <class Store>
void convert(const H5Type& type, const unsigned char* bytes, std::int64_t count, Store store) {
    static_assert(std::endian::native == std::endian::little);
    const bool swap = type.big_endian;
    if (type.kind == H5Kind::floating) {
        switch (type.size) {
        case 2:
            for (std::int64_t i = 0; i < count; ++i) store(i, half_to_double(load<std::uint16_t>(bytes + 2 * i, swap)));
            return;
        case 4: return each<std::uint32_t, float>(bytes, count, swap, store);
        case 8: return each<std::uint64_t, double>(bytes, count, swap, store);
        }
    } else if (type.kind == H5Kind::integer) {
        switch (type.is_signed ? -type.size : type.size) {
        case 1: return each<std::uint8_t, std::uint8_t>(bytes, count, swap, store);
        case 2: return each<std::uint16_t, std::uint16_t>(bytes, count, swap, store);
        case 4: return each<std::uint32_t, std::uint32_t>(bytes, count, swap, store);
        case 8: return each<std::uint64_t, std::uint64_t>(bytes, count, swap, store);
        case -1: return each<std::uint8_t, std::int8_t>(bytes, count, swap, store);
        case -2: return each<std::uint16_t, std::int16_t>(bytes, count, swap, store);
        case -4: return each<std::uint32_t, std::int32_t>(bytes, count, swap, store);
        case -8: return each<std::uint64_t, std::int64_t>(bytes, count, swap, store);
        }
    }
    fail(ErrorKind::internal, text("[hdf5] elements of type ", type.name(), " are no numbers"));
}

}  // namespace

void to_doubles(const H5Type& type, const unsigned char* bytes, std::int64_t count, double* out) {
    convert(type, bytes, count, [out](std::int64_t i, double value) { out[i] = value; });
}

void to_floats(const H5Type& type, const unsigned char* bytes, std::int64_t count, double scale, double offset,
               float* out) {
    convert(type, bytes, count,
            [=](std::int64_t i, double value) { out[i] = static_cast<float>(value * scale + offset); });
}

}  // namespace cover
