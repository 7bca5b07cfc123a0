#include "nn/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/check.h"
#include "core/file.h"

namespace cover {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors bytes are little-endian");

using nlohmann::json;
constexpr std::uint64_t largest_header = 100'000'000;  // the format's own bound

std::uint64_t bytes_per_element(const std::string& dtype) {
    if (dtype == "F64") return 8;
    if (dtype == "F32") return 4;
    if (dtype == "F16" || dtype == "BF16") return 2;
    return 0;
}

// Builds the header while it is read. A tree of a hostile header could be a hundred times its size; this keeps only
// what the format allows and stops at the first thing that it does not.
class HeaderReader : public nlohmann::json_sax<json> {
public:
    TensorHeader header;
    std::string why;

    bool null() override { return refuse("null"); }
    bool boolean(bool) override { return refuse("a truth value"); }
    bool number_integer(number_integer_t) override { return refuse("a negative number"); }
    bool number_float(number_float_t, const string_t&) override { return refuse("a fraction"); }
    bool binary(binary_t&) override { return refuse("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (state_ != State::shape && state_ != State::offsets) return refuse("a number");
        numbers_.push_back(value);
        if (state_ == State::shape && numbers_.size() > static_cast<std::size_t>(Shape::max_rank))
            return stop("tensor '" + entry_.name + "' has more than 6 dimensions");
        if (state_ == State::offsets && numbers_.size() > 2)
            return stop("tensor '" + entry_.name + "' has more than two data_offsets");
        return true;
    }
    bool string(string_t& value) override {
        if (state_ == State::metadata) {
            header.metadata[key_] = value;
            return true;
        }
        if (state_ != State::dtype) return refuse("a string");
        entry_.dtype = value;
        state_ = State::tensor;
        return true;
    }
    bool start_object(std::size_t) override {
        if (state_ == State::start) {
            state_ = State::top;
            return true;
        }
        if (state_ != State::named) return refuse("an object");
        if (key_ == "__metadata__") {
            state_ = State::metadata;
            return true;
        }
        state_ = State::tensor;
        entry_ = {};
        entry_.name = key_;
        seen_.clear();
        return true;
    }
    bool end_object() override {
        if (state_ == State::tensor) {
            if (seen_.size() != 3) return stop("tensor '" + entry_.name + "' lacks dtype, shape or data_offsets");
            header.entries.push_back(entry_);
        }
        state_ = State::top;
        return true;
    }
    bool key(string_t& value) override {
        key_ = value;
        switch (state_) {
        case State::top:
            if (!names_.insert(value).second) return stop("'" + value + "' appears twice");
            state_ = State::named;
            return true;
        case State::metadata:
            if (!metadata_names_.insert(value).second) return stop("metadata '" + value + "' appears twice");
            return true;
        case State::tensor:
            if (!seen_.insert(value).second) return stop("tensor '" + entry_.name + "' has '" + value + "' twice");
            if (value == "dtype")
                state_ = State::dtype;
            else if (value == "shape")
                state_ = State::before_shape;
            else if (value == "data_offsets")
                state_ = State::before_offsets;
            else
                return stop("tensor '" + entry_.name + "' has an unknown entry '" + value + "'");
            return true;
        default: return refuse("a key");
        }
    }
    bool start_array(std::size_t) override {
        if (state_ != State::before_shape && state_ != State::before_offsets) return refuse("a list");
        state_ = state_ == State::before_shape ? State::shape : State::offsets;
        numbers_.clear();
        return true;
    }
    bool end_array() override {
        if (state_ == State::shape) {
            for (const auto side : numbers_) {
                if (side > largest_count) return stop("tensor '" + entry_.name + "' has an impossible side");
                entry_.shape.append(static_cast<std::int64_t>(side));
            }
        } else {
            if (numbers_.size() != 2) return stop("tensor '" + entry_.name + "' needs two data_offsets");
            entry_.begin = numbers_[0];
            entry_.end = numbers_[1];
        }
        state_ = State::tensor;
        return true;
    }
    bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
        if (why.empty()) why = text("its header is no JSON from byte ", 8 + position, " on");
        return false;
    }

private:
    enum class State { start, top, named, metadata, tensor, dtype, before_shape, shape, before_offsets, offsets };
    static constexpr std::uint64_t largest_count = std::uint64_t{1} << 48;

    bool stop(std::string sentence) {
        why = std::move(sentence);
        return false;
    }
    bool refuse(const char* what) {
        return stop(std::string("its header has ") + what + " where the format allows none" +
                    (key_.empty() ? "" : ", after '" + key_ + "'"));
    }

    State state_ = State::start;
    std::string key_;
    TensorEntry entry_;
    std::vector<std::uint64_t> numbers_;
    std::set<std::string> names_, metadata_names_, seen_;
};

// Sizes that match, and ranges that cover [0, data_bytes) exactly.
void check_ranges(const std::string& path, TensorHeader& header, std::uint64_t data_bytes) {
    for (const auto& e : header.entries) {
        const auto size = bytes_per_element(e.dtype);
        require(size > 0, ErrorKind::data, "[safetensors] ", path, ": tensor '", e.name, "' has type '", e.dtype,
                "'; F32, F64, F16 and BF16 are understood");
        require(e.begin <= e.end && e.end <= data_bytes, ErrorKind::data, "[safetensors] ", path, ": tensor '", e.name,
                "' claims bytes ", e.begin, " to ", e.end, " of ", data_bytes,
                "; the file is damaged or cut short, copy it again");
        std::uint64_t bytes = size;
        for (int axis = 0; axis < e.shape.rank(); ++axis)
            require(!__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(e.shape[axis]), &bytes), ErrorKind::data,
                    "[safetensors] ", path, ": tensor '", e.name, "' has an impossible shape ", e.shape.to_string());
        require(bytes == e.end - e.begin, ErrorKind::data, "[safetensors] ", path, ": tensor '", e.name, "' of shape ",
                e.shape.to_string(), " needs ", bytes, " bytes, its range has ", e.end - e.begin);
    }
    std::stable_sort(header.entries.begin(), header.entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::uint64_t reached = 0;
    for (const auto& e : header.entries) {
        require(e.begin == reached, ErrorKind::data, "[safetensors] ", path, ": tensor '", e.name, "' begins at byte ",
                e.begin, e.begin < reached ? ", inside the one before it" : ", behind a gap", " that ends at ",
                e.begin < reached ? reached : e.begin, "; the format allows neither");
        reached = e.end;
    }
    require(reached == data_bytes, ErrorKind::data, "[safetensors] ", path, ": ", data_bytes - reached,
            " bytes at its end belong to no tensor");
}

std::ifstream open(const std::string& path, std::uint64_t& file_bytes) {
    std::error_code error;
    require(std::filesystem::exists(path, error), ErrorKind::io, "[safetensors] ", path, ": there is no such file");
    require(std::filesystem::is_regular_file(path, error), ErrorKind::io, "[safetensors] ", path, ": is no file");
    file_bytes = std::filesystem::file_size(path, error);
    require(!error, ErrorKind::io, "[safetensors] ", path, ": ", error.message());
    std::ifstream file(path, std::ios::binary);
    require(file.good(), ErrorKind::io, "[safetensors] ", path, ": cannot be opened for reading");
    return file;
}

TensorHeader read_header(const std::string& path, std::ifstream& file, std::uint64_t file_bytes) {
    std::uint64_t header_bytes = 0;
    require(file_bytes >= 8, ErrorKind::data, "[safetensors] ", path, ": has ", file_bytes,
            " bytes; a safetensors file has at least 8");
    file.read(reinterpret_cast<char*>(&header_bytes), 8);
    require(file.good(), ErrorKind::io, "[safetensors] ", path, ": cannot be read");
    require(header_bytes >= 2 && header_bytes <= largest_header && header_bytes <= file_bytes - 8, ErrorKind::data,
            "[safetensors] ", path, ": promises a header of ", header_bytes, " bytes in a file of ", file_bytes,
            "; it is no safetensors file, or damaged");
    std::string bytes(static_cast<std::size_t>(header_bytes), '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(header_bytes));
    require(file.good(), ErrorKind::io, "[safetensors] ", path, ": cannot be read");
    require(bytes[0] == '{', ErrorKind::data, "[safetensors] ", path,
            ": its header does not begin with '{'; it is no safetensors file");

    HeaderReader reader;
    const bool whole = json::sax_parse(bytes, &reader);
    require(whole, ErrorKind::data, "[safetensors] ", path, ": ",
            reader.why.empty() ? std::string("its header is no JSON") : reader.why);
    reader.header.data_at = 8 + header_bytes;
    check_ranges(path, reader.header, file_bytes - reader.header.data_at);
    return std::move(reader.header);
}

float widen_half(std::uint16_t half) {
    const std::uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    if (exponent == 0) {
        const float value = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -value : value;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

const char* format_name(DType dtype) {
    switch (dtype) {
    case DType::float32: return "F32";
    case DType::float64: return "F64";
    case DType::bfloat16: return "BF16";
    }
    return "?";
}

// Length and text of a header: all that stands before the first tensor byte.
std::string header_of(const std::string& path, const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
    std::string header = "{";
    std::set<std::string> names{"__metadata__"};
    try {
        if (!metadata.empty()) header += "\"__metadata__\":" + json(metadata).dump();
        std::uint64_t at = 0;
        for (const auto& [name, tensor] : tensors) {
            require(tensor.defined(), ErrorKind::internal, "[safetensors] tensor '", name, "' is undefined");
            require(names.insert(name).second, ErrorKind::internal, "[safetensors] the name '", name, "' is taken");
            json shape = json::array();
            for (int axis = 0; axis < tensor.shape().rank(); ++axis) shape.push_back(tensor.shape()[axis]);
            if (header.size() > 1) header += ',';
            header += text(json(name).dump(), ":{\"dtype\":\"", format_name(tensor.dtype()),
                           "\",\"shape\":", shape.dump(), ",\"data_offsets\":[", at, ",", at + tensor.bytes(), "]}");
            at += tensor.bytes();
        }
    } catch (const json::exception&) {
        fail(ErrorKind::internal, text("[safetensors] ", path, ": a name or metadata string is no UTF-8"));
    }
    header += '}';
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const std::uint64_t header_bytes = header.size();
    return std::string(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes) + header;
}

}  // namespace

const Tensor* TensorFile::find(const std::string& name) const {
    for (const auto& t : tensors)
        if (t.name == name) return &t.tensor;
    return nullptr;
}

TensorHeader read_safetensors_header(const std::string& path) {
    std::uint64_t file_bytes = 0;
    auto file = open(path, file_bytes);
    return read_header(path, file, file_bytes);
}

TensorFile read_safetensors(const std::string& path) {
    std::uint64_t file_bytes = 0;
    auto file = open(path, file_bytes);
    auto header = read_header(path, file, file_bytes);
    TensorFile result;
    result.metadata = std::move(header.metadata);
    for (const auto& e : header.entries) {
        const auto bytes = static_cast<std::streamsize>(e.end - e.begin);
        const DType dtype = e.dtype == "F64" ? DType::float64 : e.dtype == "BF16" ? DType::bfloat16 : DType::float32;
        Tensor tensor = Tensor::empty(e.shape, dtype);
        if (e.dtype == "F16") {
            std::vector<std::uint16_t> halves(static_cast<std::size_t>(tensor.count()));
            file.read(reinterpret_cast<char*>(halves.data()), bytes);
            std::transform(halves.begin(), halves.end(), tensor.data<float>(), widen_half);
        } else {
            file.read(static_cast<char*>(tensor.view().data), bytes);
        }
        require(file.good(), ErrorKind::io, "[safetensors] ", path, ": tensor '", e.name, "' cannot be read");
        result.tensors.push_back({e.name, std::move(tensor)});
    }
    return result;
}

void write_safetensors(FileWriter& file, const std::string& path, const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata) {
    const std::string header = header_of(path, tensors, metadata);
    std::uint64_t bytes = header.size();
    for (const auto& t : tensors) bytes += t.tensor.bytes();
    file.reserve(bytes);
    file.write(header);
    for (const auto& t : tensors) file.write(t.tensor.view().data, t.tensor.bytes());
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
    AtomicFile file(path);
    write_safetensors(file.writer(), path, tensors, metadata);
    file.commit();
}

std::uint64_t safetensors_bytes(const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
    std::uint64_t bytes = header_of("", tensors, metadata).size();
    for (const auto& t : tensors) bytes += t.tensor.bytes();
    return bytes;
}

}  // namespace cover
