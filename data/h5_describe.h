// What the child process (h5_child.cpp) tells about the objects of a file. Only the child includes this.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/h5.h"

namespace cover::child {

constexpr const char* unreadable_part =
    "the HDF5 library cannot read a part of it: it is damaged, or in a format that is newer than the library (h5py: "
    "libver='v110' writes an older one)";

// Thrown where a file is not read any further; the sentence goes to the parent.
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

inline void check(bool ok) {
    if (!ok) throw Refusal{unreadable_part};
}

// Of a simple data space.
std::vector<std::int64_t> sides(hid_t space);
// -1 when the product leaves the range.
std::int64_t product(const std::vector<std::int64_t>& shape);
H5Type describe_type(hid_t type);

// Calls say() with one JSON object for every group, data set and link of the file, each group once.
void describe_file(hid_t file, const std::function<void(const nlohmann::json&)>& say);
nlohmann::json describe_dataset(hid_t dataset, const std::string& path);

}  // namespace cover::child
