// Whether a shared library's file is whole. The system's loader maps a file that was cut short and dies of a bus error
// in it; a download that broke off has to be a sentence.
#pragma once

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace cover::vendor {

// Empty, or what is wrong with the file.
inline std::string elf_problem(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return path + ": " + std::strerror(errno);
    const auto problem = [&]() -> std::string {
        struct stat status {};
        Elf64_Ehdr header{};
        if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return ": is no file";
        if (pread(file, &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header) ||
            std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
            header.e_phentsize != sizeof(Elf64_Phdr))
            return ": is no shared library";
        const auto size = static_cast<std::uint64_t>(status.st_size);
        for (unsigned i = 0; i < header.e_phnum; ++i) {
            Elf64_Phdr part{};
            const std::uint64_t at = header.e_phoff + i * sizeof part;
            if (at > size ||
                pread(file, &part, sizeof part, static_cast<off_t>(at)) != static_cast<ssize_t>(sizeof part) ||
                part.p_offset > size || part.p_filesz > size - part.p_offset)
                return ": is cut short (" + std::to_string(size) + " bytes)";
        }
        return "";
    }();
    close(file);
    return problem.empty() ? problem : path + problem;
}

}  // namespace cover::vendor
