#include "tests/nifti_support.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace cover::test {

namespace {

class Bytes {
public:
    Bytes(std::size_t size, bool big_endian) : bytes_(size, '\0'), big_endian_(big_endian) {}
    template <class T>
    void put(std::size_t at, T value) {
        char raw[sizeof(T)];
        std::memcpy(raw, &value, sizeof raw);
        if (big_endian_) std::reverse(raw, raw + sizeof raw);
        if (bytes_.size() < at + sizeof raw) bytes_.resize(at + sizeof raw);
        std::memcpy(bytes_.data() + at, raw, sizeof raw);
    }
    void text(std::size_t at, const char* data, std::size_t size) { std::memcpy(bytes_.data() + at, data, size); }
    std::string take() { return std::move(bytes_); }

private:
    std::string bytes_;
    bool big_endian_;
};

template <class T>
void put_values(Bytes& out, std::size_t at, const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) out.put(at + i * sizeof(T), static_cast<T>(values[i]));
}

}  // namespace

std::string nifti_bytes(const MadeNifti& m) {
    const std::size_t least = m.version == 1 ? 352 : 544;
    const std::size_t offset = m.data_offset > 0 ? static_cast<std::size_t>(m.data_offset) : least;
    Bytes out(offset, m.big_endian);
    const int datatype = m.datatype.value_or(static_cast<int>(m.type));
    const double stated = m.stated_offset.value_or(static_cast<double>(offset));
    if (m.version == 1) {
        out.put(0, std::int32_t{348});
        for (std::size_t i = 0; i < 8; ++i) out.put(40 + 2 * i, static_cast<std::int16_t>(m.dim[i]));
        out.put(70, static_cast<std::int16_t>(datatype));
        for (std::size_t i = 0; i < 4; ++i) out.put(76 + 4 * i, static_cast<float>(m.pixdim[i]));
        out.put(108, static_cast<float>(stated));
        out.put(112, static_cast<float>(m.slope));
        out.put(116, static_cast<float>(m.intercept));
        out.put(123, static_cast<std::uint8_t>(m.units));
        out.put(252, static_cast<std::int16_t>(m.qform_code));
        out.put(254, static_cast<std::int16_t>(m.sform_code));
        for (std::size_t i = 0; i < 6; ++i) out.put(256 + 4 * i, static_cast<float>(m.quaternion[i]));
        for (std::size_t i = 0; i < 12; ++i) out.put(280 + 4 * i, static_cast<float>(m.srow[i]));
        out.text(344, m.single_file ? "n+1" : "ni1", 4);
    } else {
        out.put(0, std::int32_t{540});
        out.text(4, m.single_file ? "n+2\0\r\n\x1a\n" : "ni2\0\r\n\x1a\n", 8);
        out.put(12, static_cast<std::int16_t>(datatype));
        for (std::size_t i = 0; i < 8; ++i) out.put(16 + 8 * i, m.dim[i]);
        for (std::size_t i = 0; i < 4; ++i) out.put(104 + 8 * i, m.pixdim[i]);
        out.put(168, static_cast<std::int64_t>(stated));
        out.put(176, m.slope);
        out.put(184, m.intercept);
        out.put(344, std::int32_t{m.qform_code});
        out.put(348, std::int32_t{m.sform_code});
        for (std::size_t i = 0; i < 6; ++i) out.put(352 + 8 * i, m.quaternion[i]);
        for (std::size_t i = 0; i < 12; ++i) out.put(400 + 8 * i, m.srow[i]);
        out.put(500, std::int32_t{m.units});
    }
    switch (m.type) {
    case NiftiType::uint8: put_values<std::uint8_t>(out, offset, m.values); break;
    case NiftiType::int8: put_values<std::int8_t>(out, offset, m.values); break;
    case NiftiType::uint16: put_values<std::uint16_t>(out, offset, m.values); break;
    case NiftiType::int16: put_values<std::int16_t>(out, offset, m.values); break;
    case NiftiType::uint32: put_values<std::uint32_t>(out, offset, m.values); break;
    case NiftiType::int32: put_values<std::int32_t>(out, offset, m.values); break;
    case NiftiType::uint64: put_values<std::uint64_t>(out, offset, m.values); break;
    case NiftiType::int64: put_values<std::int64_t>(out, offset, m.values); break;
    case NiftiType::float32: put_values<float>(out, offset, m.values); break;
    case NiftiType::float64: put_values<double>(out, offset, m.values); break;
    case NiftiType::rgb24: throw std::logic_error("no colours here");
    }
    return out.take();
}

std::string gzipped(const std::string& bytes) {
    z_stream stream{};
    if (deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::runtime_error("zlib");
    std::string out(deflateBound(&stream, bytes.size()), '\0');
    stream.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<unsigned>(bytes.size());
    stream.next_out = reinterpret_cast<unsigned char*>(out.data());
    stream.avail_out = static_cast<unsigned>(out.size());
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) throw std::runtime_error("zlib");
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

}  // namespace cover::test
