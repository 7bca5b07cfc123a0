#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/targets.h"

namespace cover::fuzz {

void broken(const std::string& what) {
    std::fprintf(stderr, "fuzz: %s\n", what.c_str());
    std::abort();
}

bool only(ErrorKind expected, const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        if (error.kind() != expected)
            broken(text("an error of kind ", static_cast<int>(error.kind()), " instead of ", static_cast<int>(expected),
                        ": ", error.what()));
        return true;
    } catch (const std::exception& error) {
        broken(text("an exception that is no sentence: ", error.what()));
    }
    return false;
}

std::string as_file(const unsigned char* data, std::size_t size) {
    static int file = -1;
    if (file >= 0) close(file);
    file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0) broken("no file in memory");
    for (std::size_t done = 0; done < size;) {
        const ssize_t n = write(file, data + done, size - done);
        if (n <= 0) broken("the file in memory cannot be written");
        done += static_cast<std::size_t>(n);
    }
    return text("/proc/self/fd/", file);
}

}  // namespace cover::fuzz
