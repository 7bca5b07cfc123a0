// How the plug-in finds and opens a vendor's library, without any of it at link time.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace cover::vendor {

// A sentence for the caller. It does not leave the plug-in.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Wanted {
    const char* name;                      // "cuDNN"
    std::vector<std::string> files;        // in the order of preference: "libcudnn.so.9"
    std::vector<std::string> pip_folders;  // below site-packages: "nvidia/cudnn/lib"
    const char* package;                   // what pip calls it
};

class SharedLibrary {
public:
    // Looks in the folders of COVER_VENDOR_PATH (separated by colons) where that is set, and nowhere else; otherwise in
    // the system's library path, CUDA's folders and those of python3's packages. Throws Failure that says where.
    explicit SharedLibrary(const Wanted& wanted);

    const std::string& path() const { return path_; }
    // Throws Failure where the library has no such function.
    void* symbol(const char* function) const;
    template <class Function>
    void bind(Function*& pointer, const char* function) const {
        pointer = reinterpret_cast<Function*>(symbol(function));
    }

private:
    std::string name_, path_;
    void* handle_ = nullptr;
};

}  // namespace cover::vendor
