// What the child said about a file, checked: nothing behind this page depends on the HDF5 library having been right.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "data/h5.h"

namespace cover {

struct H5Facts {
    std::map<std::string, H5Dataset> datasets;
    std::map<std::string, H5Attributes> groups;
    std::map<std::string, std::string> links;  // not followed: path and kind
};

// answer: the child's lines. Throws Error(data) where an offset, size or shape does not fit into a file of file_size
// bytes.
H5Facts parse_h5_facts(const std::string& answer, const std::string& path, std::int64_t file_size);

// H5File::open() with a child's answer that is known already.
H5File open_h5_with_answer(const std::string& path, const std::string& answer);

}  // namespace cover
