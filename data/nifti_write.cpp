#include <string.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/file.h"
#include "data/nifti.h"

namespace cover {

namespace {

class HeaderBytes {
public:
    explicit HeaderBytes(std::size_t size) : bytes_(size, '\0') {}
    template <class T>
    void put(std::size_t offset, T value) {
        memcpy(bytes_.data() + offset, &value, sizeof value);
    }
    void put(std::size_t offset, std::string_view value, std::size_t room) {
        memcpy(bytes_.data() + offset, value.data(), std::min(value.size(), room));
    }
    const std::string& str() const { return bytes_; }

private:
    std::string bytes_;
};

// 352 or 544 bytes: the header and four zeros, "no extension".
std::string header_bytes(const NiftiHeader& h, int version, const std::array<std::int64_t, 8>& dim,
                         const std::array<double, 8>& pixdim, const NiftiOutput& output) {
    const auto bits = static_cast<std::int16_t>(8 * size_of(output.type));
    const auto datatype = static_cast<std::int16_t>(output.type);
    const int intent = output.vector_valued ? 1007 : 0;  // NIFTI_INTENT_VECTOR
    const int spatial_units = h.units & 7;
    if (version == 1) {
        HeaderBytes out(352);
        out.put(0, std::int32_t{348});
        out.put(38, 'r');
        for (std::size_t i = 0; i < 8; ++i) {
            out.put(40 + 2 * i, static_cast<std::int16_t>(dim[i]));
            out.put(76 + 4 * i, static_cast<float>(pixdim[i]));
        }
        out.put(68, static_cast<std::int16_t>(intent));
        out.put(70, datatype);
        out.put(72, bits);
        out.put(108, 352.0f);
        out.put(112, 1.0f);
        out.put(123, static_cast<std::uint8_t>(spatial_units));
        out.put(148, output.description, 79);
        out.put(252, static_cast<std::int16_t>(h.qform_code));
        out.put(254, static_cast<std::int16_t>(h.sform_code));
        for (std::size_t i = 0; i < 6; ++i) out.put(256 + 4 * i, static_cast<float>(h.quaternion[i]));
        for (std::size_t i = 0; i < 12; ++i) out.put(280 + 4 * i, static_cast<float>(h.srow[i]));
        out.put(344, std::string_view("n+1\0", 4), 4);
        return out.str();
    }
    HeaderBytes out(544);
    out.put(0, std::int32_t{540});
    out.put(4, std::string_view("n+2\0\r\n\x1a\n", 8), 8);
    out.put(12, datatype);
    out.put(14, bits);
    for (std::size_t i = 0; i < 8; ++i) {
        out.put(16 + 8 * i, dim[i]);
        out.put(104 + 8 * i, pixdim[i]);
    }
    out.put(168, std::int64_t{544});
    out.put(176, 1.0);
    out.put(240, output.description, 79);
    out.put(344, std::int32_t{h.qform_code});
    out.put(348, std::int32_t{h.sform_code});
    for (std::size_t i = 0; i < 6; ++i) out.put(352 + 8 * i, h.quaternion[i]);
    for (std::size_t i = 0; i < 12; ++i) out.put(400 + 8 * i, h.srow[i]);
    out.put(500, std::int32_t{spatial_units});
    out.put(504, std::int32_t{intent});
    return out.str();
}

class GzipWriter {
public:
    explicit GzipWriter(AtomicFile& file) : file_(file), buffer_(std::size_t{1} << 18) {
        // No time and no name in the gzip header: the same contents are the same bytes.
        require(deflateInit2(&stream_, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK, ErrorKind::device,
                "[nifti] there is no memory for zlib");
    }
    ~GzipWriter() { deflateEnd(&stream_); }
    GzipWriter(const GzipWriter&) = delete;
    GzipWriter& operator=(const GzipWriter&) = delete;

    void write(const void* data, std::size_t bytes, bool last) {
        const auto* at = static_cast<const unsigned char*>(data);
        do {
            // zlib counts in 32 bits.
            const std::size_t part = std::min(bytes, std::size_t{1} << 30);
            stream_.next_in = const_cast<unsigned char*>(at);
            stream_.avail_in = static_cast<uInt>(part);
            at += part;
            bytes -= part;
            const int flush = last && bytes == 0 ? Z_FINISH : Z_NO_FLUSH;
            do {
                stream_.next_out = buffer_.data();
                stream_.avail_out = static_cast<uInt>(buffer_.size());
                deflate(&stream_, flush);
                file_.write(buffer_.data(), buffer_.size() - stream_.avail_out);
            } while (stream_.avail_out == 0);
        } while (bytes > 0);
    }

private:
    AtomicFile& file_;
    std::vector<unsigned char> buffer_;
    z_stream stream_{};
};

}  // namespace

void write_nifti(const std::string& path, const NiftiHeader& like, const NiftiOutput& output, const void* values) {
    require(output.type == NiftiType::uint8 || output.type == NiftiType::int16 || output.type == NiftiType::float32 ||
                output.type == NiftiType::rgb24,
            ErrorKind::internal, "[nifti] ", name_of(output.type), " is not written");
    require(output.volumes >= 1, ErrorKind::internal, "[nifti] ", output.volumes, " volumes");
    std::array<std::int64_t, 8> dim{3, like.shape[0], like.shape[1], like.shape[2], 1, 1, 1, 1};
    if (output.vector_valued) {
        dim[0] = 5;
        dim[5] = output.volumes;
    } else if (output.volumes > 1) {
        dim[0] = 4;
        dim[4] = output.volumes;
    }
    std::array<double, 8> pixdim = like.pixdim;
    std::fill(pixdim.begin() + 4, pixdim.end(), 1.0);
    const bool wide = std::any_of(dim.begin(), dim.end(), [](std::int64_t side) { return side > 32767; });
    const std::string header = header_bytes(like, wide ? 2 : like.version, dim, pixdim, output);
    const auto bytes = static_cast<std::size_t>(like.voxels() * output.volumes * size_of(output.type));
    AtomicFile file(path);
    if (path.ends_with(".gz")) {
        GzipWriter gzip(file);
        gzip.write(header.data(), header.size(), false);
        gzip.write(values, bytes, true);
    } else {
        file.write(header);
        file.write(values, bytes);
    }
    file.commit();
}

}  // namespace cover
