#include "kernels/vendor/shared_library.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kernels/vendor/elf_check.h"

namespace cover::vendor {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(separator, at), text.size());
        if (end > at) parts.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value ? value : "";
}

// Where python3 looks for packages. Asked once, and only after the other places.
const std::vector<std::string>& python_folders() {
    static const std::vector<std::string> folders = [] {
        std::string output;
        const std::unique_ptr<FILE, int (*)(FILE*)> pipe(
            popen("python3 -c 'import sys; print(\"\\n\".join(sys.path))' 2> /dev/null < /dev/null", "r"), pclose);
        char line[4096];
        while (pipe && std::fgets(line, sizeof line, pipe.get())) output += line;
        std::vector<std::string> found;
        for (const std::string& folder : split(output, '\n'))
            if (folder.front() == '/' && access((folder + "/nvidia").c_str(), X_OK) == 0) found.push_back(folder);
        return found;
    }();
    return folders;
}

std::vector<std::string> cuda_folders() {
    std::vector<std::string> folders;
    std::vector<std::string> roots{environment("CUDA_HOME"), environment("CUDA_PATH"), "/usr/local/cuda"};
    for (const std::string& root : roots)
        if (!root.empty())
            for (const char* below : {"/lib64", "/lib"}) folders.push_back(root + below);
    for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib"}) folders.push_back(folder);
    return folders;
}

std::string joined(const std::vector<std::string>& parts, const char* separator) {
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : separator) + part;
    return all;
}

}  // namespace

SharedLibrary::SharedLibrary(const Wanted& wanted) : name_(wanted.name) {
    std::vector<std::string> looked, errors;
    const auto open = [&](const std::string& file) {
        if (file.find('/') != std::string::npos) {
            if (const std::string problem = elf_problem(file); !problem.empty()) {
                errors.push_back(problem);
                return false;
            }
        }
        handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle_) {
            const std::string error = dlerror();
            // The loader's own search says of a missing file no more than that it is missing.
            if (error.rfind(file + ": cannot open", 0) != 0) errors.push_back(error);
            return false;
        }
        link_map* map = nullptr;
        path_ = dlinfo(handle_, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] ? map->l_name : file;
        return true;
    };
    const auto open_in = [&](const std::string& folder) {
        looked.push_back(folder);
        for (const std::string& file : wanted.files)
            if (access((folder + "/" + file).c_str(), F_OK) == 0 && open(folder + "/" + file)) return true;
        return false;
    };

    const std::vector<std::string> told = split(environment("COVER_VENDOR_PATH"), ':');
    for (const std::string& folder : told)
        if (open_in(folder.front() == '/' ? folder : "./" + folder)) return;
    if (told.empty()) {
        looked.push_back("the system's library path");
        for (const std::string& file : wanted.files)
            if (open(file)) return;
        for (const std::string& folder : cuda_folders())
            if (open_in(folder)) return;
        for (const std::string& packages : python_folders())
            for (const std::string& below : wanted.pip_folders)
                if (open_in(packages + "/" + below)) return;
        if (python_folders().empty()) looked.push_back("python3's packages (none from NVIDIA)");
    }
    const std::string files = joined(wanted.files, " or ");
    if (!errors.empty())
        throw Failure("[vendor] " + name_ + " cannot be opened: " + joined(errors, "; ") + "; install it again (pip " +
                      "install " + wanted.package + "), or name the folder of a whole " + files +
                      " in COVER_VENDOR_PATH");
    throw Failure("[vendor] " + name_ + " is not there: looked for " + files + " in " + joined(looked, ", ") +
                  "; install it (pip install " + wanted.package + "), or name its folder in COVER_VENDOR_PATH");
}

void* SharedLibrary::symbol(const char* function) const {
    void* const found = dlsym(handle_, function);
    if (!found)
        throw Failure("[vendor] " + name_ + " (" + path_ + ") has no " + function +
                      ": it is too old; name the folder of a newer one in COVER_VENDOR_PATH");
    return found;
}

}  // namespace cover::vendor
