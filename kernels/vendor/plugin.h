// Loads libcover_vendor.so when a vendor's row is first asked for. In a header, because both the program (`cover info`)
// and the library of the CUDA rows need it, and the latter is built from headers alone.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "core/check.h"
#include "kernels/vendor/elf_check.h"
#include "kernels/vendor/interface.h"

namespace cover::vendor {

struct Plugin {
    const Interface* functions = nullptr;
    std::string where;  // its file; where functions is null a sentence
};

// The first libcover_vendor.so in these folders. Once it serves, it stays open until the program ends.
inline Plugin open_plugin(const std::vector<std::string>& folders) {
    std::string looked;
    for (const std::string& folder : folders) {
        const std::string path = folder + "/libcover_vendor.so";
        looked += (looked.empty() ? "" : ", ") + folder;
        if (access(path.c_str(), F_OK) != 0) continue;
        std::string problem = elf_problem(path);
        void* const handle = problem.empty() ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
        if (problem.empty() && !handle) problem = dlerror();
        if (!problem.empty())
            return {nullptr, text("[vendor] the plug-in cannot be opened: ", problem,
                                  "; build it again (ninja cover_vendor), or take another row than vendor_cudnn and "
                                  "vendor_cublas")};
        const auto enter = reinterpret_cast<EntryPoint>(dlsym(handle, entry_point));
        const Interface* const functions = enter ? enter() : nullptr;
        if (!functions || functions->version != interface_version) {
            dlclose(handle);
            return {nullptr, text("[vendor] the plug-in ", path,
                                  " belongs to another version of this program; build it again (ninja cover_vendor)")};
        }
        return {functions, path};
    }
    return {nullptr, text("[vendor] the plug-in libcover_vendor.so is not there, looked for in ", looked,
                          "; it is built where the headers cudnn.h and cublas_v2.h are found: install them and build "
                          "again, or take another row than vendor_cudnn and vendor_cublas")};
}

// Beside this code and beside the program, as they lie in a build folder, an installation and a bundle.
inline std::vector<std::string> plugin_folders() {
    std::vector<std::string> folders;
    const auto add = [&](const std::string& file) {
        const auto slash = file.rfind('/');
        if (slash == std::string::npos) return;
        for (const char* below : {"", "/lib", "/..", "/../lib"}) {
            char* const resolved = realpath((file.substr(0, slash) + below).c_str(), nullptr);
            if (!resolved) continue;
            bool known = false;
            for (const std::string& folder : folders) known = known || folder == resolved;
            if (!known) folders.emplace_back(resolved);
            std::free(resolved);
        }
    };
    Dl_info here{};
    static const char anchor = 0;
    if (dladdr(&anchor, &here) != 0 && here.dli_fname) add(here.dli_fname);
    char program[4096];
    if (const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1); length > 0)
        add(std::string(program, static_cast<std::size_t>(length)));
    return folders;
}

// Loaded at the first call. Not const, so that a test can put another one in its place.
inline Plugin& plugin() {
    static Plugin instance = open_plugin(plugin_folders());
    return instance;
}

struct Found {
    bool there;
    std::string where;  // "cuDNN 9.19.0, /usr/lib/.../libcudnn.so.9", or a sentence
};

inline Found find(Library library) {
    if (!plugin().functions) return {false, plugin().where};
    Text text;
    const bool there = plugin().functions->open(library, &text);
    return {there, text.characters};
}

}  // namespace cover::vendor
