#include "data/h5_facts.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/check.h"

namespace cover {

namespace {

using nlohmann::json;

// A whole number that T can hold; of any other the library would make one whose value is not defined.
template <class T>
T whole_number(const json& j) {
    if (j.is_number_unsigned() && std::in_range<T>(j.get<std::uint64_t>())) return j.get<T>();
    if (j.is_number_integer() && !j.is_number_unsigned() && std::in_range<T>(j.get<std::int64_t>())) return j.get<T>();
    throw json::type_error::create(302, text("a whole number within its range is expected, not a ", j.type_name()), &j);
}

template <class T>
std::vector<T> whole_numbers(const json& list) {
    std::vector<T> out;
    for (const json& j : list) out.push_back(whole_number<T>(j));
    return out;
}

H5Attributes parse_attributes(const json& object) {
    H5Attributes out;
    for (const auto& [name, value] : object.items()) {
        H5Attribute& attribute = out[name];
        attribute.shape = whole_numbers<std::int64_t>(value.at("shape"));
        if (value.contains("numbers"))
            for (const json& x : value["numbers"]) {
                if (x.is_number())
                    attribute.numbers.push_back(x.get<double>());
                else
                    attribute.numbers.push_back(x == "nan" ? NAN : x == "inf" ? INFINITY : -INFINITY);
            }
        if (value.contains("strings")) attribute.strings = value["strings"].get<std::vector<std::string>>();
    }
    return out;
}

class Parser {
public:
    Parser(const std::string& path, std::int64_t file_size) : path_(path), file_size_(file_size) {}

    H5Facts facts;
    bool ended = false;

    void line(const json& j) {
        if (j.contains("error"))
            fail(ErrorKind::data,
                 text("[hdf5] ", path_, ": ", j["error"].get<std::string>(), "; copy or make the file again"));
        if (j.contains("group")) {
            facts.groups[j["group"].get<std::string>()] = parse_attributes(j.at("attributes"));
        } else if (j.contains("link")) {
            facts.links[j["link"].get<std::string>()] = j.at("kind").get<std::string>();
        } else if (j.contains("dataset")) {
            H5Dataset d = dataset(j);
            std::string name = d.path;
            facts.datasets[std::move(name)] = std::move(d);
        } else if (j.contains("end")) {
            ended = true;
            user_block_ = whole_number<std::int64_t>(j.at("user_block"));
        }
    }

    // The user block is told last; chunk addresses count from behind it.
    void place_chunks() {
        require(user_block_ >= 0 && user_block_ <= file_size_, ErrorKind::data, "[hdf5] ", path_, ": a user block of ",
                user_block_, " bytes in a file of ", file_size_, "; the file is damaged");
        for (auto& [name, d] : facts.datasets)
            for (H5Chunk& chunk : d.chunks) {
                check(d,
                      chunk.offset >= 0 && chunk.offset <= file_size_ && chunk.size >= 0 &&
                          chunk.size <= file_size_ - user_block_ - chunk.offset,
                      "a chunk that reaches behind the end of the file");
                chunk.offset += user_block_;
            }
    }

private:
    void check(const H5Dataset& d, bool ok, const char* what) const {
        require(ok, ErrorKind::data, "[hdf5] ", path_, ": dataset ", d.path, " has ", what,
                "; the file is damaged or was cut short, copy or make it again");
    }

    H5Dataset dataset(const json& j) const {
        H5Dataset d;
        d.path = j["dataset"].get<std::string>();
        if (j.contains("unreadable")) d.unreadable = j["unreadable"].get<std::string>();
        if (!j.contains("type")) return d;
        const json& type = j["type"];
        const int kind = whole_number<int>(type.at(0));
        check(d, kind >= 0 && kind <= static_cast<int>(H5Kind::other), "an unknown type");
        d.type = {static_cast<H5Kind>(kind), whole_number<std::int64_t>(type.at(1)), type.at(2).get<bool>(),
                  type.at(3).get<bool>()};
        check(d, d.type.size >= 0 && d.type.size < (std::int64_t{1} << 31), "an impossible type");
        const bool byte = d.type.size == 1 && d.type.kind == H5Kind::integer;
        check(d, !d.type.numeric() || byte || d.type.size == 2 || d.type.size == 4 || d.type.size == 8,
              "an impossible type");
        d.shape = whole_numbers<std::int64_t>(j.at("shape"));
        d.attributes = parse_attributes(j.at("attributes"));
        std::int64_t bytes = std::max<std::int64_t>(1, d.type.size);
        bool fits = d.shape.size() <= 32;
        bool empty = false;
        for (const std::int64_t side : d.shape) {
            empty = empty || side == 0;
            fits = fits && side >= 0;
        }
        if (!empty)
            for (const std::int64_t side : d.shape) fits = fits && !__builtin_mul_overflow(bytes, side, &bytes);
        check(d, fits, "an impossible shape");
        if (empty) bytes = 0;
        if (j.contains("strings")) {
            check(d, d.type.kind == H5Kind::string && d.type.size == 0,
                  "the text of what is no string of variable length");
            d.strings = j["strings"].get<std::vector<std::string>>();
            check(d, static_cast<std::int64_t>(d.strings.size()) == d.count(),
                  "another number of strings than it says");
            return d;
        }
        if (!d.unreadable.empty()) return d;
        if (d.type.kind == H5Kind::other) {
            d.unreadable = "has a type that is neither integer, float16, float32, float64 nor string";
            return d;
        }
        const std::string layout = j.at("layout").get<std::string>();
        if (layout == "contiguous") {
            d.layout = H5Layout::contiguous;
            d.offset = whole_number<std::int64_t>(j.at("offset"));
            check(d, d.offset < 0 || (d.offset <= file_size_ && bytes <= file_size_ - d.offset),
                  "elements behind the end of the file");
        } else if (layout == "compact") {
            d.layout = H5Layout::compact;
            d.bytes = whole_numbers<unsigned char>(j.at("bytes"));
            check(d, static_cast<std::int64_t>(d.bytes.size()) == bytes, "another size than it says");
        } else {
            d.layout = H5Layout::chunked;
            chunked(j, d);
        }
        return d;
    }

    // Before memory is asked for: deflate cannot do better than 1032 to 1, and without it every byte is there.
    static bool can_hold(const H5Dataset& d, const H5Chunk& chunk, std::int64_t chunk_bytes) {
        for (std::size_t i = 0; i < d.filters.size(); ++i)
            if (d.filters[i] == H5Filter::deflate && !(chunk.filter_mask >> i & 1))
                return chunk.size >= 0 && chunk_bytes / 1040 <= chunk.size + 64;
        return chunk.size >= chunk_bytes;
    }

    void chunked(const json& j, H5Dataset& d) const {
        d.chunk_side = whole_numbers<std::int64_t>(j.at("chunk_side"));
        check(d, d.chunk_side.size() == d.shape.size() && !d.shape.empty(), "chunks of another rank");
        std::int64_t chunk_bytes = d.type.size;
        for (const std::int64_t side : d.chunk_side)
            check(d, side > 0 && !__builtin_mul_overflow(chunk_bytes, side, &chunk_bytes), "impossible chunks");
        check(d, chunk_bytes < (std::int64_t{1} << 32), "chunks of more than 4 GiB");
        for (const json& filter : j.at("filters")) {
            const std::string name = filter.get<std::string>();
            d.filters.push_back(name == "deflate"   ? H5Filter::deflate
                                : name == "shuffle" ? H5Filter::shuffle
                                                    : H5Filter::fletcher32);
        }
        check(d, d.filters.size() <= 8, "more than eight filters");
        if (j.contains("shuffle_size")) d.shuffle_size = whole_number<std::int64_t>(j["shuffle_size"]);
        check(d, d.shuffle_size >= 0 && d.shuffle_size < (std::int64_t{1} << 31), "an impossible shuffle filter");
        d.too_many_chunks = j.at("too_many_chunks").get<bool>();
        d.stored = whole_number<std::int64_t>(j.at("stored"));
        check(d, d.stored >= 0 && d.stored <= file_size_, "chunks of more bytes than the file");
        if (d.too_many_chunks) return;
        for (const json& entry : j.at("chunks")) {
            H5Chunk chunk;
            chunk.offset = whole_number<std::int64_t>(entry.at(0));
            chunk.size = whole_number<std::int64_t>(entry.at(1));
            chunk.filter_mask = whole_number<std::uint32_t>(entry.at(2));
            for (std::size_t axis = 0; axis < d.shape.size(); ++axis) {
                const std::int64_t at = whole_number<std::int64_t>(entry.at(3 + axis));
                check(d, at >= 0 && at < d.shape[axis] && at % d.chunk_side[axis] == 0, "a chunk outside of its shape");
                chunk.at.push_back(at);
            }
            check(d, can_hold(d, chunk, chunk_bytes), "a chunk of fewer bytes than its elements need");
            d.chunks.push_back(std::move(chunk));
        }
        std::sort(d.chunks.begin(), d.chunks.end(), [](const H5Chunk& a, const H5Chunk& b) { return a.at < b.at; });
        for (std::size_t i = 1; i < d.chunks.size(); ++i)
            check(d, d.chunks[i - 1].at != d.chunks[i].at, "two chunks in one place");
    }

    const std::string& path_;
    std::int64_t file_size_;
    std::int64_t user_block_ = 0;
};

}  // namespace

H5Facts parse_h5_facts(const std::string& answer, const std::string& path, std::int64_t file_size) {
    Parser parser(path, file_size);
    try {
        std::size_t begin = 0;
        while (begin < answer.size() && !parser.ended) {
            std::size_t end = answer.find('\n', begin);
            if (end == std::string::npos) end = answer.size();
            parser.line(json::parse(answer.begin() + static_cast<std::ptrdiff_t>(begin),
                                    answer.begin() + static_cast<std::ptrdiff_t>(end)));
            begin = end + 1;
        }
    } catch (const json::exception& error) {
        fail(ErrorKind::data, text("[hdf5] ", path, ": the child process gave an answer that cannot be read (",
                                   error.what(), "); the file is damaged, copy or make it again"));
    }
    require(parser.ended, ErrorKind::data, "[hdf5] ", path, ": it could not be read to the end; the file is damaged");
    parser.place_chunks();
    return std::move(parser.facts);
}

}  // namespace cover
