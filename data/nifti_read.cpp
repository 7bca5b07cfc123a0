#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <limits>

#include "core/check.h"
#include "data/nifti.h"

namespace cover {

namespace {

constexpr std::size_t buffer_bytes = std::size_t{1} << 20;
// Deflate codes at most 258 bytes in two bits.
constexpr std::int64_t most_bytes_per_deflated_byte = 1032;
// Read behind the last volume in search of the stream's check sum.
constexpr std::int64_t most_trailing_bytes = std::int64_t{64} << 20;

class ByteSource {
public:
    virtual ~ByteSource() = default;
    // At most `bytes`, at least one; 0 at the end.
    virtual std::size_t read(unsigned char* out, std::size_t bytes) = 0;
};

class FileSource final : public ByteSource {
public:
    explicit FileSource(const std::string& path) : path_(path) {
        // A pipe must not keep the program waiting.
        file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        require(file_ >= 0, ErrorKind::data, "[nifti] cannot open ", path, ": ", strerror(errno));
        struct stat facts {};
        const bool regular = fstat(file_, &facts) == 0 && S_ISREG(facts.st_mode);
        if (!regular) close(file_);
        require(regular, ErrorKind::data, "[nifti] ", path, " is not a file");
        size_ = facts.st_size;
    }
    ~FileSource() override { close(file_); }
    FileSource(const FileSource&) = delete;
    FileSource& operator=(const FileSource&) = delete;

    std::int64_t size() const { return size_; }
    std::size_t read(unsigned char* out, std::size_t bytes) override {
        ssize_t got = 0;
        do got = ::read(file_, out, bytes);
        while (got < 0 && errno == EINTR);
        require(got >= 0, ErrorKind::io, "[nifti] reading ", path_, ": ", strerror(errno));
        return static_cast<std::size_t>(got);
    }

private:
    std::string path_;
    int file_ = -1;
    std::int64_t size_ = 0;
};

class MemorySource final : public ByteSource {
public:
    explicit MemorySource(std::string_view bytes) : rest_(bytes) {}
    std::size_t read(unsigned char* out, std::size_t bytes) override {
        const std::size_t n = std::min(bytes, rest_.size());
        if (n > 0) memcpy(out, rest_.data(), n);
        rest_.remove_prefix(n);
        return n;
    }

private:
    std::string_view rest_;
};

// What gzip compressed, one member after another (RFC 1952). Whatever else follows a member is ignored, as gzip does.
class InflateSource final : public ByteSource {
public:
    InflateSource(std::unique_ptr<ByteSource> in, std::string name)
        : in_(std::move(in)), name_(std::move(name)), input_(buffer_bytes / 4) {
        require(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK, ErrorKind::device,
                "[nifti] there is no memory for zlib");
    }
    ~InflateSource() override { inflateEnd(&stream_); }
    InflateSource(const InflateSource&) = delete;
    InflateSource& operator=(const InflateSource&) = delete;

    std::size_t read(unsigned char* out, std::size_t bytes) override {
        stream_.next_out = out;
        stream_.avail_out = static_cast<uInt>(bytes);
        while (!ended_ && stream_.avail_out == bytes) {
            refill();
            require(stream_.avail_in > 0, ErrorKind::data, "[nifti] ", name_,
                    ": ends in the middle of its compressed data; it was cut short, copy or make it again");
            const int code = inflate(&stream_, Z_NO_FLUSH);
            require(code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR, ErrorKind::data, "[nifti] ", name_,
                    ": its compressed data are damaged (", stream_.msg ? stream_.msg : "zlib",
                    "); copy or make it again");
            if (code == Z_STREAM_END) next_member();
        }
        return bytes - stream_.avail_out;
    }

private:
    void refill() {
        if (stream_.avail_in > 0) return;
        stream_.avail_in = static_cast<uInt>(in_->read(input_.data(), input_.size()));
        stream_.next_in = input_.data();
    }

    void next_member() {
        refill();
        // The mark of a member may be split between two reads; its second byte is then checked by inflate.
        ended_ =
            stream_.avail_in == 0 || stream_.next_in[0] != 0x1f || (stream_.avail_in > 1 && stream_.next_in[1] != 0x8b);
        if (!ended_) inflateReset(&stream_);
    }

    std::unique_ptr<ByteSource> in_;
    std::string name_;
    std::vector<unsigned char> input_;
    z_stream stream_{};
    bool ended_ = false;
};

float narrowed(double value) {
    if (value > static_cast<double>(std::numeric_limits<float>::max())) return std::numeric_limits<float>::infinity();
    if (value < -static_cast<double>(std::numeric_limits<float>::max())) return -std::numeric_limits<float>::infinity();
    return static_cast<float>(value);
}

template <class T>
void convert(const unsigned char* bytes, std::size_t count, const NiftiHeader& header, std::vector<float>& out) {
    for (std::size_t i = 0; i < count; ++i) {
        unsigned char raw[sizeof(T)];
        memcpy(raw, bytes + i * sizeof(T), sizeof raw);
        if (header.big_endian) std::reverse(raw, raw + sizeof raw);
        T value;
        memcpy(&value, raw, sizeof raw);
        out.push_back(narrowed(static_cast<double>(value) * header.slope + header.intercept));
    }
}

void convert(const unsigned char* bytes, std::size_t count, const NiftiHeader& header, std::vector<float>& out) {
    switch (header.type) {
    case NiftiType::uint8: return convert<std::uint8_t>(bytes, count, header, out);
    case NiftiType::int8: return convert<std::int8_t>(bytes, count, header, out);
    case NiftiType::uint16: return convert<std::uint16_t>(bytes, count, header, out);
    case NiftiType::int16: return convert<std::int16_t>(bytes, count, header, out);
    case NiftiType::uint32: return convert<std::uint32_t>(bytes, count, header, out);
    case NiftiType::int32: return convert<std::int32_t>(bytes, count, header, out);
    case NiftiType::uint64: return convert<std::uint64_t>(bytes, count, header, out);
    case NiftiType::int64: return convert<std::int64_t>(bytes, count, header, out);
    case NiftiType::float32: return convert<float>(bytes, count, header, out);
    case NiftiType::float64: return convert<double>(bytes, count, header, out);
    case NiftiType::rgb24: break;
    }
    fail(ErrorKind::internal, "[nifti] colours are not read");
}

}  // namespace

struct NiftiReader::State {
    std::string name;
    std::unique_ptr<ByteSource> source;
    bool compressed = false;
    // False where few compressed bytes promise much: a volume then gets memory as its bytes arrive.
    bool memory_at_once = true;
    NiftiHeader header;
    std::int64_t volumes_read = 0;

    // As many as there are, up to `bytes`.
    std::size_t fill(unsigned char* out, std::size_t bytes) const {
        std::size_t done = 0;
        while (done < bytes) {
            const std::size_t got = source->read(out + done, bytes - done);
            if (got == 0) break;
            done += got;
        }
        return done;
    }

    void begin(std::unique_ptr<ByteSource> raw, std::string_view mark, std::int64_t raw_size) {
        compressed = mark.substr(0, 2) == "\x1f\x8b";
        source = std::move(raw);
        if (compressed) source = std::make_unique<InflateSource>(std::move(source), name);
        unsigned char bytes[nifti_max_header_bytes];
        const std::size_t got = fill(bytes, sizeof bytes);
        header = parse_nifti_header({reinterpret_cast<const char*>(bytes), got}, name);
        // voxels() is at most 2^30 and a voxel at most 8 bytes.
        std::int64_t promised = 0;
        const bool countable =
            !__builtin_mul_overflow(header.voxels() * size_of(header.type), header.volumes, &promised) &&
            !__builtin_add_overflow(promised, header.data_offset, &promised);
        const std::int64_t most = compressed ? raw_size * most_bytes_per_deflated_byte : raw_size;
        require(countable && promised <= most, ErrorKind::data, "[nifti] ", name, ": its header promises ",
                countable ? text(promised) : "more than 2^63", " bytes, but ",
                compressed ? text(raw_size, " compressed bytes cannot hold them") : text("it has ", raw_size),
                "; it was cut short or is damaged, copy or make it again");
        memory_at_once = !compressed || header.voxels() <= 16 * raw_size;
        skip(header.data_offset - static_cast<std::int64_t>(got), {bytes, got});
    }

    // From the end of what was read for the header to the first voxel. The voxels of a small NIfTI-1 file begin within
    // it.
    struct HeaderBytes {
        const unsigned char* data;
        std::size_t size;
    };
    void skip(std::int64_t bytes, const HeaderBytes& read) {
        if (bytes < 0) {
            begun.assign(read.data + header.data_offset, read.data + read.size);
            return;
        }
        std::vector<unsigned char> away(buffer_bytes / 4);
        while (bytes > 0) {
            const std::size_t got =
                fill(away.data(), static_cast<std::size_t>(std::min<std::int64_t>(bytes, buffer_bytes / 4)));
            if (got == 0) fail_short();
            bytes -= static_cast<std::int64_t>(got);
        }
    }

    [[noreturn]] void fail_short() const {
        fail(ErrorKind::data,
             text("[nifti] ", name, ": ends before its last voxel; it was cut short, copy or make it again"));
    }

    std::size_t read_voxels(unsigned char* out, std::size_t bytes) {
        const std::size_t ready = std::min(bytes, begun.size());
        std::copy_n(begun.begin(), ready, out);
        begun.erase(begun.begin(), begun.begin() + static_cast<std::ptrdiff_t>(ready));
        return ready + fill(out + ready, bytes - ready);
    }

    std::vector<unsigned char> begun;  // voxels that came along with the header
};

NiftiReader::NiftiReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
NiftiReader::NiftiReader(NiftiReader&&) noexcept = default;
NiftiReader& NiftiReader::operator=(NiftiReader&&) noexcept = default;
NiftiReader::~NiftiReader() = default;

const NiftiHeader& NiftiReader::header() const { return state_->header; }

NiftiReader NiftiReader::open(const std::string& path) {
    auto state = std::make_unique<State>();
    state->name = path;
    unsigned char mark[2];
    const std::size_t marked = FileSource(path).read(mark, sizeof mark);
    auto file = std::make_unique<FileSource>(path);
    const std::int64_t size = file->size();
    require(size > 0, ErrorKind::data, "[nifti] ", path, ": the file is empty; copy or make it again");
    state->begin(std::move(file), {reinterpret_cast<const char*>(mark), marked}, size);
    return NiftiReader(std::move(state));
}

NiftiReader NiftiReader::from_bytes(std::string_view bytes, const std::string& name) {
    auto state = std::make_unique<State>();
    state->name = name;
    require(!bytes.empty(), ErrorKind::data, "[nifti] ", name, ": the file is empty; copy or make it again");
    state->begin(std::make_unique<MemorySource>(bytes), bytes, static_cast<std::int64_t>(bytes.size()));
    return NiftiReader(std::move(state));
}

std::vector<float> NiftiReader::next() {
    State& s = *state_;
    require(s.volumes_read < s.header.volumes, ErrorKind::internal, "[nifti] ", s.name, ": has ", s.header.volumes,
            " volumes");
    ++s.volumes_read;
    const auto size = static_cast<std::size_t>(size_of(s.header.type));
    std::int64_t left = s.header.voxels();
    std::vector<float> out;
    std::vector<unsigned char> buffer(buffer_bytes);
    while (left > 0) {
        const auto count = static_cast<std::size_t>(std::min<std::int64_t>(left, buffer_bytes / size));
        if (s.read_voxels(buffer.data(), count * size) != count * size) s.fail_short();
        if (out.empty() && s.memory_at_once) out.reserve(static_cast<std::size_t>(s.header.voxels()));
        convert(buffer.data(), count, s.header, out);
        left -= static_cast<std::int64_t>(count);
    }
    if (s.compressed && s.volumes_read == s.header.volumes)
        for (std::int64_t behind = 0; behind < most_trailing_bytes;) {
            const std::size_t got = s.source->read(buffer.data(), buffer.size());
            if (got == 0) break;
            behind += static_cast<std::int64_t>(got);
        }
    return out;
}

}  // namespace cover
