// Which files `cover prepare` reads, and what index.csv says about them.
#pragma once

#include <string>
#include <vector>

#include "data/prepare.h"

namespace cover {

struct InputFile {
    std::string path;
    std::string source;   // below the folder that was named, or the file's name: the same wherever the data lie
    std::string subject;  // from index.csv (subject, patient, patient_id or group), else the stem
};

enum class InputKind { picture, hdf5, volume, unknown };

// By the name, or by the first bytes where the name says nothing.
InputKind kind_of(const std::string& path);

// Sorted by path, each once. Of a folder: pictures, volumes and HDF5 files below it, or below its `images` where it has
// one. With a split: the rows of the folder's index.csv whose `split` is that. What is named but not there goes to
// `bad`. Throws Error(data) for a split without an index.csv and for a split that no row has.
std::vector<InputFile> find_inputs(const PrepareOptions& options, std::vector<BadInput>& bad);

// Its name begins with a dot: such files are left out of folders (macOS puts a ._NAME beside every NAME).
bool is_hidden(const std::string& path);

// The stem: the name without folder and extension (.nii.gz counts as one).
std::string stem_of(const std::string& path);

// Rows of a CSV file with a header, by column name. Quotes as in RFC 4180.
std::vector<std::vector<std::pair<std::string, std::string>>> read_csv(const std::string& path);

}  // namespace cover
