// One function per reader of files that nobody vouches for. Each takes any bytes and returns; an error that is not the
// sentence which a damaged file deserves ends the process, and so does whatever a sanitizer finds.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/check.h"

namespace cover::fuzz {

void image(const unsigned char* data, std::size_t size);
void safetensors(const unsigned char* data, std::size_t size);
void hdf5_facts(const unsigned char* data, std::size_t size);
void config(const unsigned char* data, std::size_t size);
void index(const unsigned char* data, std::size_t size);
void nifti(const unsigned char* data, std::size_t size);

struct Target {
    const char* name;  // of its folder in tests/fuzz/corpus
    void (*run)(const unsigned char*, std::size_t);
};
const std::vector<Target>& targets();

// Runs body(); an Error of kind `expected` is fine, any other is printed and ends the process. True when it threw.
bool only(ErrorKind expected, const std::function<void()>& body);

// The bytes as a file without a name on any disk; the path holds until the next call.
std::string as_file(const unsigned char* data, std::size_t size);

[[noreturn]] void broken(const std::string& what);

}  // namespace cover::fuzz
