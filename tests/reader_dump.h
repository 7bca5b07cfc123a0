// What the program's readers make of files, written down for another program to compare.
#pragma once

#include <string>
#include <vector>

namespace cover::test {

// Every NIfTI, PNG, JPEG and HDF5 file below the folders. OUT/index.jsonl gets a line for each: path, kind, and shape,
// affine and the file of float32 values, or the sentence of refusal. Returns the number of lines.
int dump_readers(const std::vector<std::string>& folders, const std::string& out);

}  // namespace cover::test
