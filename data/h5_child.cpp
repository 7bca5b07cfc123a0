// The child process: the only place where the HDF5 library reads a file. It may die here. One line of JSON per object
// goes to standard output; the parent (h5_facts.cpp) believes none of it unchecked.
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "data/h5.h"
#include "data/h5_process.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COVER_SANITIZED 1
#else
#define COVER_SANITIZED 0
#endif

namespace cover {

namespace {

using nlohmann::json;

constexpr std::int64_t max_objects = 200000;
constexpr std::int64_t max_attribute_elements = 1 << 20;
constexpr std::int64_t max_string_elements = 1 << 20;
constexpr std::int64_t max_compact_bytes = 1 << 16;
constexpr int max_depth = 64;
// Listing n chunks takes n * n steps of the library (20,000 chunks: 4 to 6 s): two such data sets fit the time limit.
constexpr std::int64_t chunk_budget = std::int64_t{2} * H5File::max_chunks * H5File::max_chunks;
constexpr std::int64_t block_bytes = std::int64_t{64} << 20;

constexpr const char* unreadable_part =
    "the HDF5 library cannot read a part of it: it is damaged, or in a format that is newer than the library (h5py: "
    "libver='v110' writes an older one)";

struct Refusal {
    std::string sentence;
};

// An HDF5 identifier with its closing function.
class Id {
public:
    Id(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {
        if (id_ < 0) throw Refusal{unreadable_part};
    }
    ~Id() { close_(id_); }
    Id(const Id&) = delete;
    Id& operator=(const Id&) = delete;
    operator hid_t() const { return id_; }

private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

void check(bool ok) {
    if (!ok) throw Refusal{unreadable_part};
}

void write_all(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t done = write(1, p, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) _exit(1);  // the parent has gone
        p += done;
        bytes -= static_cast<std::size_t>(done);
    }
}

void say(const json& line) {
    const std::string s = line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    write_all(s.data(), s.size());
}

// Behind the limit, the hard one: seconds of processor time between the signal and the end.
void limit(int resource, rlim_t value, rlim_t grace = 0) {
    rlimit limits{value, value + grace};
    setrlimit(static_cast<__rlimit_resource>(resource), &limits);
}

void lower_limits() {
    signal(SIGPIPE, SIG_DFL);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    if (!COVER_SANITIZED) limit(RLIMIT_AS, rlim_t{512} << 20);
}

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

// -1 when the product leaves the range.
std::int64_t product(const std::vector<std::int64_t>& shape) {
    std::int64_t out = 1;
    for (const std::int64_t side : shape)
        if (__builtin_mul_overflow(out, side, &out)) return -1;
    return out;
}

bool is_ieee_float(hid_t type, std::size_t size) {
    std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
    if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0) return false;
    if (H5Tget_norm(type) != H5T_NORM_IMPLIED || mantissa != 0 || H5Tget_offset(type) != 0) return false;
    if (size == 2) return exponent_bits == 5 && mantissa_bits == 10 && sign == 15 && H5Tget_ebias(type) == 15;
    if (size == 4) return exponent_bits == 8 && mantissa_bits == 23 && sign == 31 && H5Tget_ebias(type) == 127;
    if (size == 8) return exponent_bits == 11 && mantissa_bits == 52 && sign == 63 && H5Tget_ebias(type) == 1023;
    return false;
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
    explicit Describer(hid_t file) : file_(file) {}

    void group(hid_t group, const std::string& path, int depth) {
        H5O_info_t info;
        check(H5Oget_info2(group, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS) >= 0);
        if (!visited_.insert(info.addr).second) return;
        count_object();
        if (depth > max_depth) throw Refusal{"its groups lie deeper than 64 levels"};
        say({{"group", path}, {"attributes", attributes_as_json(group, static_cast<std::int64_t>(info.num_attrs))}});
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
            say({{"link", path}, {"kind", kind}});
            return;
        }
        const Id object(H5Oopen(group_id, name.c_str(), H5P_DEFAULT), H5Oclose);
        const H5I_type_t kind = H5Iget_type(object);
        if (kind == H5I_GROUP) {
            group(object, path, depth + 1);
        } else if (kind == H5I_DATASET) {
            count_object();
            say(dataset(object, path));
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

    hid_t file_;
    std::set<haddr_t> visited_;
    std::int64_t objects_ = 0;
    std::int64_t chunks_squared_ = 0;
};

hid_t open_file() {
    // Standard input is the file that the parent has opened: both see the same one, whatever happens to its name.
    const hid_t file = H5Fopen("/proc/self/fd/0", H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) throw Refusal{"it is not an HDF5 file, or a damaged one"};
    // No further file can be opened from here on: neither an external link, external storage nor a virtual source.
    if (!COVER_SANITIZED) limit(RLIMIT_NOFILE, 4);
    return file;
}

void tell_facts() {
    limit(RLIMIT_CPU, h5_time_limit_seconds, 2);
    alarm(h5_patience_seconds + 5);  // should the parent be gone
    const hid_t file = open_file();
    const Id creation(H5Fget_create_plist(file), H5Pclose);
    hsize_t user_block = 0;
    check(H5Pget_userblock(creation, &user_block) >= 0);
    const Id root(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose);
    Describer(file).group(root, "/", 0);
    say({{"end", true}, {"user_block", user_block}});
}

void send_frame(const void* data, std::int64_t bytes) {
    write_all(&bytes, sizeof bytes);
    write_all(data, static_cast<std::size_t>(bytes));
}

// Whether every chunk that the block [start, start + count) touches was written.
bool all_written(hid_t dataset, const std::vector<std::int64_t>& side, const std::vector<hsize_t>& start,
                 const std::vector<hsize_t>& count) {
    std::vector<hsize_t> at(side.size());
    for (std::size_t axis = 0; axis < side.size(); ++axis)
        at[axis] = start[axis] / static_cast<hsize_t>(side[axis]) * static_cast<hsize_t>(side[axis]);
    const std::vector<hsize_t> first = at;
    for (;;) {
        hsize_t bytes = 0;
        if (H5Dget_chunk_storage_size(dataset, at.data(), &bytes) < 0 || bytes == 0) return false;
        std::size_t axis = side.size();
        while (axis > 0) {
            --axis;
            at[axis] += static_cast<hsize_t>(side[axis]);
            if (at[axis] < start[axis] + count[axis]) break;
            at[axis] = first[axis];
            if (axis == 0) return true;
        }
    }
}

// The elements in row-major order, in blocks of at most 64 MiB.
void stream(const std::string& path) {
    const hid_t file = open_file();
    const Id access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
    check(H5Pset_chunk_cache(access, 12421, std::size_t{96} << 20, 1.0) >= 0);
    const Id dataset(H5Dopen2(file, path.c_str(), access), H5Dclose);
    const json facts = Describer(file).dataset(dataset, path);
    if (facts.contains("unreadable")) throw Refusal{facts["unreadable"].get<std::string>()};
    const Id type(H5Dget_type(dataset), H5Tclose);
    const Id space(H5Dget_space(dataset), H5Sclose);
    const std::vector<std::int64_t> shape = sides(space);
    const std::int64_t size = describe_type(type).size;
    if (shape.empty() || size == 0 || product(shape) <= 0) throw Refusal{"it holds no rows"};
    const std::vector<std::int64_t> chunk_side = facts.contains("chunk_side")
                                                     ? facts["chunk_side"].get<std::vector<std::int64_t>>()
                                                     : std::vector<std::int64_t>();

    // Blocks run over `axis`; axes before it step by one, those behind it are whole.
    std::size_t axis = 0;
    std::int64_t tail = size;
    for (std::size_t i = 1; i < shape.size(); ++i) tail *= shape[i];
    while (axis + 1 < shape.size() && tail > block_bytes) tail /= shape[++axis];
    std::int64_t step = std::max<std::int64_t>(1, block_bytes / tail);
    if (!chunk_side.empty() && step > chunk_side[axis]) step -= step % chunk_side[axis];
    step = std::min(step, shape[axis]);

    std::vector<unsigned char> block(static_cast<std::size_t>(step * tail));
    std::vector<hsize_t> start(shape.size(), 0), count(shape.begin(), shape.end());
    for (std::size_t i = 0; i < axis; ++i) count[i] = 1;
    for (;;) {
        count[axis] = std::min<hsize_t>(static_cast<hsize_t>(step), static_cast<hsize_t>(shape[axis]) - start[axis]);
        alarm(h5_patience_seconds);
        if (!chunk_side.empty() && !all_written(dataset, chunk_side, start, count))
            throw Refusal{"a chunk from sample " + std::to_string(start[0]) + " on was never written"};
        const Id memory(H5Screate_simple(static_cast<int>(shape.size()), count.data(), nullptr), H5Sclose);
        check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) >= 0);
        check(H5Dread(dataset, type, memory, space, H5P_DEFAULT, block.data()) >= 0);
        alarm(0);
        send_frame(block.data(), static_cast<std::int64_t>(count[axis]) * tail);
        std::size_t i = axis;
        start[i] += count[i];
        while (start[i] >= static_cast<hsize_t>(shape[i])) {
            start[i] = 0;
            if (i == 0) return;
            ++start[--i];
        }
    }
}

}  // namespace

int run_child_if_asked(int argc, char** argv) {
    h5_child_is_served();
    if (argc < 4 || std::strcmp(argv[1], h5_child_argument) != 0) return -1;
    lower_limits();
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);
    const std::string mode = argv[2];
    std::string sentence;
    try {
        if (mode == "facts")
            tell_facts();
        else
            stream(argv[3]);
        _exit(0);
    } catch (const Refusal& refusal) {
        sentence = refusal.sentence;
    } catch (const std::exception& error) {
        sentence = error.what();
    }
    if (mode == "facts") {
        say({{"error", sentence}});
    } else {
        const std::int64_t mark = -static_cast<std::int64_t>(sentence.size());
        write_all(&mark, sizeof mark);
        write_all(sentence.data(), sentence.size());
    }
    _exit(0);
}

}  // namespace cover
