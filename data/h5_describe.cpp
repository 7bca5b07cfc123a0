#include "data/h5_describe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

namespace cover::child {

using nlohmann::json;

namespace {

constexpr std::int64_t max_objects = 200000;
constexpr std::int64_t max_attribute_elements = 1 << 20;
constexpr std::int64_t max_string_elements = 1 << 20;
constexpr std::int64_t max_compact_bytes = 1 << 16;
constexpr int max_depth = 64;
// Listing n chunks takes n * n steps of the library (20,000 chunks: 4 to 6 s): two such data sets fit the time limit.
constexpr std::int64_t chunk_budget = std::int64_t{2} * H5File::max_chunks * H5File::max_chunks;

bool is_ieee_float(hid_t type, std::size_t size) {
    std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
    if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0) return false;
    if (H5Tget_norm(type) != H5T_NORM_IMPLIED || mantissa != 0 || H5Tget_offset(type) != 0) return false;
    if (size == 2) return exponent_bits == 5 && mantissa_bits == 10 && sign == 15 && H5Tget_ebias(type) == 15;
    if (size == 4) return exponent_bits == 8 && mantissa_bits == 23 && sign == 31 && H5Tget_ebias(type) == 127;
    if (size == 8) return exponent_bits == 11 && mantissa_bits == 52 && sign == 63 && H5Tget_ebias(type) == 1023;
    return false;
}

}  // namespace

std::vector<std::int64_t> sides(hid_t space) {
    const int rank = H5Sget_simple_extent_ndims(space);
    check(rank >= 0 && rank <= H5S_MAX_RANK);
    std::vector<hsize_t> dims(static_cast<std::size_t>(rank) + 1);
    check(H5Sget_simple_extent_dims(space, dims.data(), nullptr) >= 0);
    std::vector<std::int64_t> out;
    for (int axis = 0; axis < rank; ++axis) {
        check(dims[static_cast<std::size_t>(axis)] <= static_cast<hsize_t>(INT64_MAX));
        out.push_back(static_cast<std::int64_t>(dims[static_cast<std::size_t>(axis)]));
    }
    return out;
}

std::int64_t product(const std::vector<std::int64_t>& shape) {
    std::int64_t out = 1;
    for (const std::int64_t side : shape)
        if (__builtin_mul_overflow(out, side, &out)) return -1;
    return out;
}

H5Type describe_type(hid_t type) {
    H5Type out;
    const H5T_class_t kind = H5Tget_class(type);
    const std::size_t size = H5Tget_size(type);
    check(size > 0 && size < (std::size_t{1} << 31));
    out.size = static_cast<std::int64_t>(size);
    if (kind == H5T_ENUM) {
        const Id base(H5Tget_super(type), H5Tclose);
        return describe_type(base);
    }
    if (kind == H5T_STRING) {
        out.kind = H5Kind::string;
        if (H5Tis_variable_str(type) > 0) out.size = 0;
        return out;
    }
    const H5T_order_t order = H5Tget_order(type);
    const bool known_order = order == H5T_ORDER_LE || order == H5T_ORDER_BE;
    out.big_endian = order == H5T_ORDER_BE && size > 1;
    if (kind == H5T_INTEGER && known_order && (size == 1 || size == 2 || size == 4 || size == 8) &&
        H5Tget_precision(type) == 8 * size && H5Tget_offset(type) == 0) {
        out.kind = H5Kind::integer;
        out.is_signed = H5Tget_sign(type) == H5T_SGN_2;
    } else if (kind == H5T_FLOAT && known_order && is_ieee_float(type, size)) {
        out.kind = H5Kind::floating;
        out.is_signed = true;
    }
    return out;
}

namespace {

std::string trimmed(const char* text, std::size_t size) {
    std::size_t n = strnlen(text, size);
    while (n > 0 && text[n - 1] == ' ') --n;
    return std::string(text, n);
}

json number_as_json(double x) {
    if (std::isfinite(x)) return x;
    return std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
}

// Elements of an attribute or of a data set of variable-length strings.
template <class Read>
json strings_as_json(hid_t type, std::int64_t count, Read read) {
    json out = json::array();
    const std::size_t n = static_cast<std::size_t>(count);
    if (H5Tis_variable_str(type) > 0) {
        std::vector<char*> texts(n, nullptr);
        check(read(type, texts.data()) >= 0);
        for (const char* s : texts) out.push_back(s ? std::string(s) : std::string());
    } else {
        const std::size_t size = H5Tget_size(type);
        std::vector<char> bytes(n * size);
        check(read(type, bytes.data()) >= 0);
        for (std::size_t i = 0; i < n; ++i) out.push_back(trimmed(bytes.data() + i * size, size));
    }
    return out;
}

json attribute_as_json(hid_t attribute) {
    const Id type(H5Aget_type(attribute), H5Tclose);
    const Id space(H5Aget_space(attribute), H5Sclose);
    const H5S_class_t extent = H5Sget_simple_extent_type(space);
    json out;
    const std::vector<std::int64_t> shape = extent == H5S_NULL ? std::vector<std::int64_t>{0} : sides(space);
    const std::int64_t count = product(shape);
    out["shape"] = shape;
    if (count < 0 || count > max_attribute_elements) return out;
    const H5Type described = describe_type(type);
    if (described.kind == H5Kind::string) {
        if (described.size * count > (std::int64_t{1} << 24)) return out;
        const auto read = [&](hid_t t, void* data) { return count == 0 ? 0 : H5Aread(attribute, t, data); };
        out["strings"] = strings_as_json(type, count, read);
    } else if (described.numeric()) {
        std::vector<double> numbers(static_cast<std::size_t>(count));
        check(count == 0 || H5Aread(attribute, H5T_NATIVE_DOUBLE, numbers.data()) >= 0);
        json list = json::array();
        for (const double x : numbers) list.push_back(number_as_json(x));
        out["numbers"] = std::move(list);
    }
    return out;
}

json attributes_as_json(hid_t object, std::int64_t count) {
    json out = json::object();
    for (hsize_t i = 0; i < static_cast<hsize_t>(std::min<std::int64_t>(count, 4096)); ++i) {
        const Id attribute(H5Aopen_by_idx(object, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose);
        char name[1024];
        const ssize_t length = H5Aget_name(attribute, sizeof name, name);
        check(length >= 0);
        if (length < static_cast<ssize_t>(sizeof name)) out[name] = attribute_as_json(attribute);
    }
    return out;
}

// Adds "filters", "shuffle_size" and, for a filter off the list, "unreadable".
void describe_filters(hid_t creation, json& out) {
    const int count = H5Pget_nfilters(creation);
    check(count >= 0);
    json filters = json::array();
    for (int i = 0; i < count; ++i) {
        unsigned flags = 0, values[16] = {}, configuration = 0;
        std::size_t value_count = 16;
        char name[64] = "";
        const H5Z_filter_t filter = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &value_count, values,
                                                   sizeof name, name, &configuration);
        check(filter >= 0);
        if (filter == H5Z_FILTER_DEFLATE) {
            filters.push_back("deflate");
        } else if (filter == H5Z_FILTER_SHUFFLE) {
            filters.push_back("shuffle");
            out["shuffle_size"] = value_count > 0 ? values[0] : 0;
        } else if (filter == H5Z_FILTER_FLETCHER32) {
            filters.push_back("fletcher32");
        } else {
            out["unreadable"] = "is stored with filter number " + std::to_string(filter) +
                                "; of the filters only deflate, shuffle and fletcher32 are read";
        }
    }
    out["filters"] = std::move(filters);
}

class Describer {
public:
    explicit Describer(std::function<void(const json&)> say) : say_(std::move(say)) {}

    void group(hid_t group, const std::string& path, int depth) {
        H5O_info_t info;
        check(H5Oget_info2(group, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS) >= 0);
        if (!visited_.insert(info.addr).second) return;
        count_object();
        if (depth > max_depth) throw Refusal{"its groups lie deeper than 64 levels"};
        say_({{"group", path}, {"attributes", attributes_as_json(group, static_cast<std::int64_t>(info.num_attrs))}});
        std::vector<std::string> names;
        const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* data) -> herr_t {
            auto& list = *static_cast<std::vector<std::string>*>(data);
            if (static_cast<std::int64_t>(list.size()) >= max_objects) return -1;
            list.emplace_back(name);
            return 0;
        };
        check(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names) >= 0);
        for (const std::string& name : names) child(group, name, path == "/" ? "/" + name : path + "/" + name, depth);
    }

    json dataset(hid_t dataset, const std::string& path) {
        json out;
        out["dataset"] = path;
        const Id creation(H5Dget_create_plist(dataset), H5Pclose);
        const H5D_layout_t layout = H5Pget_layout(creation);
        if (layout == H5D_VIRTUAL) {
            out["unreadable"] = "is a virtual data set, whose parts lie in other files";
            return out;
        }
        const Id type(H5Dget_type(dataset), H5Tclose);
        const Id space(H5Dget_space(dataset), H5Sclose);
        const H5Type described = describe_type(type);
        const bool empty = H5Sget_simple_extent_type(space) == H5S_NULL;
        const std::vector<std::int64_t> shape = empty ? std::vector<std::int64_t>{0} : sides(space);
        out["type"] = {static_cast<int>(described.kind), described.size, described.is_signed, described.big_endian};
        out["shape"] = shape;
        H5O_info_t info;
        check(H5Oget_info2(dataset, &info, H5O_INFO_NUM_ATTRS) >= 0);
        out["attributes"] = attributes_as_json(dataset, static_cast<std::int64_t>(info.num_attrs));
        const std::int64_t count = product(shape);
        if (layout == H5D_CONTIGUOUS && H5Pget_external_count(creation) > 0) {
            out["unreadable"] = "keeps its elements in another file";
            return out;
        }
        describe_filters(creation, out);
        if (out.contains("unreadable")) return out;
        if (described.kind == H5Kind::string && described.size == 0) {
            if (count < 0 || count > max_string_elements) {
                out["unreadable"] = "holds more strings than are read here";
            } else {
                const auto read = [&](hid_t t, void* data) {
                    return count == 0 ? 0 : H5Dread(dataset, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
                };
                out["strings"] = strings_as_json(type, count, read);
            }
            return out;
        }
        if (layout == H5D_CONTIGUOUS) {
            const haddr_t offset = H5Dget_offset(dataset);  // the user block is in it
            out["layout"] = "contiguous";
            out["offset"] = offset == HADDR_UNDEF ? std::int64_t{-1} : static_cast<std::int64_t>(offset);
        } else if (layout == H5D_COMPACT) {
            compact(dataset, type, count, described.size, out);
        } else if (layout == H5D_CHUNKED) {
            chunked(dataset, creation, space, shape, out);
        } else {
            out["unreadable"] = "has a layout that is not read here";
        }
        return out;
    }

private:
    void count_object() {
        if (++objects_ > max_objects) throw Refusal{"it holds more than 200,000 objects"};
    }

    void child(hid_t group_id, const std::string& name, const std::string& path, int depth) {
        H5L_info_t link;
        check(H5Lget_info(group_id, name.c_str(), &link, H5P_DEFAULT) >= 0);
        if (link.type != H5L_TYPE_HARD) {
            count_object();
            const char* kind = link.type == H5L_TYPE_SOFT       ? "soft link"
                               : link.type == H5L_TYPE_EXTERNAL ? "link into another file"
                                                                : "user-defined link";
            say_({{"link", path}, {"kind", kind}});
            return;
        }
        const Id object(H5Oopen(group_id, name.c_str(), H5P_DEFAULT), H5Oclose);
        const H5I_type_t kind = H5Iget_type(object);
        if (kind == H5I_GROUP) {
            group(object, path, depth + 1);
        } else if (kind == H5I_DATASET) {
            count_object();
            say_(dataset(object, path));
        }
    }

    static void compact(hid_t dataset, hid_t type, std::int64_t count, std::int64_t size, json& out) {
        std::int64_t bytes = 0;
        check(count >= 0 && !__builtin_mul_overflow(count, size, &bytes) && bytes <= max_compact_bytes);
        std::vector<unsigned char> data(static_cast<std::size_t>(bytes) + 1);
        check(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()) >= 0);
        out["layout"] = "compact";
        json list = json::array();
        for (std::int64_t i = 0; i < bytes; ++i) list.push_back(data[static_cast<std::size_t>(i)]);
        out["bytes"] = std::move(list);
    }

    void chunked(hid_t dataset, hid_t creation, hid_t space, const std::vector<std::int64_t>& shape, json& out) {
        const int rank = static_cast<int>(shape.size());
        std::vector<hsize_t> side(shape.size() + 1);
        check(H5Pget_chunk(creation, rank, side.data()) == rank);
        out["layout"] = "chunked";
        std::vector<std::int64_t> chunk_side, grid;
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            check(side[axis] > 0 && side[axis] < (hsize_t{1} << 32));
            chunk_side.push_back(static_cast<std::int64_t>(side[axis]));
            grid.push_back(shape[axis] / chunk_side[axis] + (shape[axis] % chunk_side[axis] != 0));
        }
        out["chunk_side"] = chunk_side;
        const std::int64_t expected = product(grid);
        const bool too_many =
            expected < 0 || expected > H5File::max_chunks || chunks_squared_ + expected * expected > chunk_budget;
        out["too_many_chunks"] = too_many;
        out["stored"] = H5Dget_storage_size(dataset);
        if (too_many) return;
        chunks_squared_ += expected * expected;
        hsize_t count = 0;
        check(H5Dget_num_chunks(dataset, space, &count) >= 0 && count <= static_cast<hsize_t>(expected));
        json chunks = json::array();
        std::vector<hsize_t> at(shape.size() + 1);
        for (hsize_t i = 0; i < count; ++i) {
            unsigned mask = 0;
            haddr_t address = 0;
            hsize_t size = 0;
            check(H5Dget_chunk_info(dataset, space, i, at.data(), &mask, &address, &size) >= 0);
            json chunk = {address, size, mask};
            for (std::size_t axis = 0; axis < shape.size(); ++axis) chunk.push_back(at[axis]);
            chunks.push_back(std::move(chunk));
        }
        out["chunks"] = std::move(chunks);
    }

    std::function<void(const json&)> say_;
    std::set<haddr_t> visited_;
    std::int64_t objects_ = 0;
    std::int64_t chunks_squared_ = 0;
};

}  // namespace

void describe_file(hid_t file, const std::function<void(const json&)>& say) {
    const Id root(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose);
    Describer(say).group(root, "/", 0);
}

json describe_dataset(hid_t dataset, const std::string& path) {
    return Describer([](const json&) {}).dataset(dataset, path);
}

}  // namespace cover::child
