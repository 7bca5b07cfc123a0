#include "app/version.h"

#include "core/check.h"

namespace cover::app {

std::string version() { return COVER_VERSION; }

std::string build_description() {
#if defined(__clang__)
    const std::string compiler = text("clang ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#else
    const std::string compiler = text("g++ ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#endif
    return compiler + ", " COVER_BUILD_TYPE ", " COVER_SYSTEM;
}

}  // namespace cover::app
