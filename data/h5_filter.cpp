#include "data/h5_filter.h"

#include <zlib.h>

#include "core/check.h"

namespace cover {

namespace {

std::vector<unsigned char> inflate_exactly(const std::vector<unsigned char>& in, std::int64_t bytes,
                                           const std::string& where) {
    // Deflate cannot do better than 1032 to 1: a promise beyond that is refused before memory is asked for.
    require(bytes <= 1040 * static_cast<std::int64_t>(in.size()) + 64, ErrorKind::data, "[hdf5] ", where,
            ": a chunk of ", in.size(), " bytes cannot hold the ", bytes, " that it promises; the file is damaged");
    std::vector<unsigned char> out(static_cast<std::size_t>(bytes));
    z_stream stream{};
    require(inflateInit(&stream) == Z_OK, ErrorKind::device, "[hdf5] ", where, ": no memory to inflate a chunk");
    stream.next_in = const_cast<unsigned char*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&stream, Z_FINISH);
    const bool whole = status == Z_STREAM_END && stream.avail_out == 0;
    inflateEnd(&stream);
    require(whole, ErrorKind::data, "[hdf5] ", where, ": a deflated chunk is damaged; copy or make the file again");
    return out;
}

std::vector<unsigned char> unshuffle(const std::vector<unsigned char>& in, std::int64_t element) {
    const auto size = static_cast<std::size_t>(element);
    if (size <= 1) return in;
    std::vector<unsigned char> out(in.size());
    const std::size_t count = in.size() / size;
    for (std::size_t byte = 0; byte < size; ++byte)
        for (std::size_t i = 0; i < count; ++i) out[i * size + byte] = in[byte * count + i];
    for (std::size_t i = count * size; i < in.size(); ++i) out[i] = in[i];
    return out;
}

}  // namespace

std::uint32_t fletcher32(const unsigned char* data, std::int64_t bytes) {
    std::uint64_t first = 0, second = 0;
    for (std::int64_t i = 0; i < bytes; i += 2) {
        const std::uint32_t low = i + 1 < bytes ? data[i + 1] : 0u;
        first += (static_cast<std::uint32_t>(data[i]) << 8) | low;
        second += first;
        if (i % 8192 == 8190) {
            first %= 65535;
            second %= 65535;
        }
    }
    return static_cast<std::uint32_t>(((second % 65535) << 16) | (first % 65535));
}

std::vector<unsigned char> undo_filters(std::vector<unsigned char> stored, const H5Dataset& dataset,
                                        std::uint32_t filter_mask, std::int64_t chunk_bytes, const std::string& where) {
    // Bytes before each filter was applied: a checksum adds four.
    std::vector<std::int64_t> before(dataset.filters.size());
    std::int64_t bytes = chunk_bytes;
    for (std::size_t i = 0; i < dataset.filters.size(); ++i) {
        before[i] = bytes;
        if (!(filter_mask >> i & 1) && dataset.filters[i] == H5Filter::fletcher32) bytes += 4;
    }
    for (std::size_t i = dataset.filters.size(); i-- > 0;) {
        if (filter_mask >> i & 1) continue;
        switch (dataset.filters[i]) {
        case H5Filter::deflate: stored = inflate_exactly(stored, before[i], where); break;
        case H5Filter::shuffle: stored = unshuffle(stored, dataset.shuffle_size); break;
        case H5Filter::fletcher32: {
            require(stored.size() >= 4, ErrorKind::data, "[hdf5] ", where,
                    ": a chunk is too short for its checksum; the file is damaged");
            const std::size_t end = stored.size() - 4;
            std::uint32_t expected = 0;
            for (std::size_t b = 4; b-- > 0;) expected = expected << 8 | stored[end + b];
            // 0 and 65535 are the same sum.
            expected = (expected >> 16) % 65535 << 16 | (expected & 0xffff) % 65535;
            require(fletcher32(stored.data(), static_cast<std::int64_t>(end)) == expected, ErrorKind::data, "[hdf5] ",
                    where, ": the checksum of a chunk does not match; copy or make the file again");
            stored.resize(end);
            break;
        }
        }
    }
    require(static_cast<std::int64_t>(stored.size()) == chunk_bytes, ErrorKind::data, "[hdf5] ", where,
            ": a chunk has ", stored.size(), " bytes instead of ", chunk_bytes, "; the file is damaged");
    return stored;
}

}  // namespace cover
