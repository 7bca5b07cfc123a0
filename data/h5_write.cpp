#include "data/h5_write.h"

#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "core/check.h"
#include "core/file.h"

namespace cover {

namespace {

void start_library() {
    static std::once_flag once;
    std::call_once(once, [] {
        // After a failed write the exit handler of HDF5 1.10.8 dies of a segmentation fault: it must not be set.
        H5dont_atexit();
        H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
        H5PLset_loading_state(0);
    });
}

class Id {
public:
    Id() = default;
    Id(hid_t id, herr_t (*close_function)(hid_t)) : id_(id), close_(close_function) {}
    ~Id() {
        if (id_ >= 0) close_(id_);
    }
    Id(Id&& other) noexcept : id_(other.id_), close_(other.close_) { other.id_ = -1; }
    Id& operator=(Id&& other) noexcept {
        std::swap(id_, other.id_);
        std::swap(close_, other.close_);
        return *this;
    }
    operator hid_t() const { return id_; }
    herr_t close() {
        const herr_t result = id_ >= 0 ? close_(id_) : 0;
        id_ = -1;
        return result;
    }

private:
    hid_t id_ = -1;
    herr_t (*close_)(hid_t) = nullptr;
};

Id type_id(H5Store type) {
    const auto copy = [](hid_t id) { return Id(H5Tcopy(id), H5Tclose); };
    switch (type) {
    case H5Store::uint8: return copy(H5T_STD_U8LE);
    case H5Store::uint16: return copy(H5T_STD_U16LE);
    case H5Store::int16: return copy(H5T_STD_I16LE);
    case H5Store::int32: return copy(H5T_STD_I32LE);
    case H5Store::int64: return copy(H5T_STD_I64LE);
    case H5Store::float32: return copy(H5T_IEEE_F32LE);
    case H5Store::float64: return copy(H5T_IEEE_F64LE);
    case H5Store::float16: break;
    }
    // IEEE half precision, as h5py writes it.
    Id half = copy(H5T_IEEE_F32LE);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    return half;
}

Id string_type(std::size_t length) {
    Id type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type, std::max<std::size_t>(1, length));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

}  // namespace

const char* name_of(H5Store type) {
    switch (type) {
    case H5Store::uint8: return "uint8";
    case H5Store::uint16: return "uint16";
    case H5Store::int16: return "int16";
    case H5Store::int32: return "int32";
    case H5Store::int64: return "int64";
    case H5Store::float16: return "float16";
    case H5Store::float32: return "float32";
    case H5Store::float64: return "float64";
    }
    return "?";
}

std::int64_t size_of(H5Store type) {
    switch (type) {
    case H5Store::uint8: return 1;
    case H5Store::uint16:
    case H5Store::int16:
    case H5Store::float16: return 2;
    case H5Store::int32:
    case H5Store::float32: return 4;
    case H5Store::int64:
    case H5Store::float64: return 8;
    }
    return 0;
}

struct H5Writer::State {
    std::string path;
    AtomicFile place;
    Id file;
    struct Open {
        Id dataset, type;
        std::vector<hsize_t> shape;
    };
    std::map<std::string, Open> open;

    explicit State(const std::string& p) : path(p), place(p) {}

    void check(bool ok, const std::string& what) const {
        require(ok, ErrorKind::io, "[hdf5] ", path, ": ", what,
                " could not be written; is the disk full or the place not writable?");
    }

    Open& create(const std::string& name, Id type, const std::vector<std::int64_t>& shape) {
        Open made;
        for (const std::int64_t side : shape) made.shape.push_back(static_cast<hsize_t>(side));
        const Id space(shape.empty() ? H5Screate(H5S_SCALAR)
                                     : H5Screate_simple(static_cast<int>(shape.size()), made.shape.data(), nullptr),
                       H5Sclose);
        const Id creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
        create_parents(name);
        check(H5Pset_obj_track_times(creation, false) >= 0 && H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
                  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
                  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0,
              name);
        made.type = std::move(type);
        made.dataset =
            Id(H5Dcreate2(file, name.c_str(), made.type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose);
        check(made.dataset >= 0, name);
        return open[name] = std::move(made);
    }

    // Groups that the path needs and that are not there yet; made by hand, so that none of them keeps a time.
    void create_group(const std::string& name) {
        const Id creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
        check(H5Pset_obj_track_times(creation, false) >= 0, name);
        const Id made(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose);
        check(made >= 0, "group " + name);
    }
    void create_parents(const std::string& name) {
        for (std::size_t at = name.find('/', 1); at != std::string::npos; at = name.find('/', at + 1)) {
            const std::string parent = name.substr(0, at);
            if (H5Lexists(file, parent.c_str(), H5P_DEFAULT) <= 0) create_group(parent);
        }
    }

    void attribute(const std::string& object, const std::string& name, hid_t type, hid_t space, const void* data) {
        const Id owner(H5Oopen(file, object.c_str(), H5P_DEFAULT), H5Oclose);
        check(owner >= 0, "attribute '" + name + "' of " + object);
        const Id attribute(H5Acreate2(owner, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
        check(attribute >= 0 && H5Awrite(attribute, type, data) >= 0, "attribute '" + name + "' of " + object);
    }
};

H5Writer::H5Writer(const std::string& path) {
    start_library();
    state_ = std::make_unique<State>(path);
    const Id creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    const Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    state_->check(H5Pset_obj_track_times(creation, false) >= 0 &&
                      H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) >= 0 &&
                      H5Pset_file_locking(access, false, true) >= 0,
                  "the file");
    state_->file = Id(H5Fcreate(state_->place.aside().c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose);
    state_->check(state_->file >= 0, "the file");
}

H5Writer::~H5Writer() = default;

void H5Writer::group(const std::string& path) {
    if (path == "/") return;
    state_->create_parents(path);
    if (H5Lexists(state_->file, path.c_str(), H5P_DEFAULT) <= 0) state_->create_group(path);
}

void H5Writer::create(const std::string& path, H5Store type, const std::vector<std::int64_t>& shape) {
    state_->create(path, type_id(type), shape);
}

void H5Writer::write_rows(const std::string& path, std::int64_t first, std::int64_t count, const void* data) {
    const auto found = state_->open.find(path);
    require(found != state_->open.end(), ErrorKind::internal, "[hdf5] ", path, " was not created");
    State::Open& target = found->second;
    if (count == 0) return;
    std::vector<hsize_t> start(target.shape.size(), 0), extent = target.shape;
    require(!extent.empty() && first >= 0 && count >= 0 && first + count <= static_cast<std::int64_t>(extent[0]),
            ErrorKind::internal, "[hdf5] rows ", first, " to ", first + count, " of ", path, " do not exist");
    start[0] = static_cast<hsize_t>(first);
    extent[0] = static_cast<hsize_t>(count);
    const Id memory(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose);
    const Id space(H5Dget_space(target.dataset), H5Sclose);
    state_->check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr) >= 0 &&
                      H5Dwrite(target.dataset, target.type, memory, space, H5P_DEFAULT, data) >= 0,
                  path);
}

void H5Writer::dataset(const std::string& path, H5Store type, const std::vector<std::int64_t>& shape,
                       const void* data) {
    const State::Open& made = state_->create(path, type_id(type), shape);
    for (const hsize_t side : made.shape)
        if (side == 0) return;
    state_->check(H5Dwrite(made.dataset, made.type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, path);
}

void H5Writer::floats(const std::string& path, const std::vector<std::int64_t>& shape, const float* data) {
    dataset(path, H5Store::float32, shape, data);
}

void H5Writer::doubles(const std::string& path, const std::vector<std::int64_t>& shape, const double* data) {
    dataset(path, H5Store::float64, shape, data);
}

void H5Writer::strings(const std::string& path, const std::vector<std::string>& values) {
    std::size_t length = 1;
    for (const std::string& s : values) length = std::max(length, s.size());
    std::vector<char> bytes(length * values.size() + 1, 0);
    for (std::size_t i = 0; i < values.size(); ++i)
        std::copy(values[i].begin(), values[i].end(), bytes.begin() + static_cast<std::ptrdiff_t>(i * length));
    const State::Open& made = state_->create(path, string_type(length), {static_cast<std::int64_t>(values.size())});
    if (values.empty()) return;
    state_->check(H5Dwrite(made.dataset, made.type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) >= 0, path);
}

void H5Writer::attribute(const std::string& object, const std::string& name, double value) {
    const Id space(H5Screate(H5S_SCALAR), H5Sclose);
    state_->attribute(object, name, type_id(H5Store::float64), space, &value);
}

void H5Writer::attribute(const std::string& object, const std::string& name, std::int64_t value) {
    const Id space(H5Screate(H5S_SCALAR), H5Sclose);
    state_->attribute(object, name, type_id(H5Store::int64), space, &value);
}

void H5Writer::attribute(const std::string& object, const std::string& name, const std::string& value) {
    // Of variable length: h5py hands such an attribute out as text, one of fixed length as bytes.
    const Id space(H5Screate(H5S_SCALAR), H5Sclose);
    const Id type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    const char* pointer = value.c_str();
    state_->attribute(object, name, type, space, &pointer);
}

void H5Writer::attribute(const std::string& object, const std::string& name, const std::vector<double>& values) {
    const hsize_t count = values.size();
    const Id space(H5Screate_simple(1, &count, nullptr), H5Sclose);
    state_->attribute(object, name, type_id(H5Store::float64), space, values.data());
}

void H5Writer::commit() {
    state_->open.clear();
    const bool flushed = H5Fflush(state_->file, H5F_SCOPE_GLOBAL) >= 0;
    const bool closed = state_->file.close() >= 0;
    state_->check(flushed && closed, "the file");
    state_->place.commit();
}

}  // namespace cover
