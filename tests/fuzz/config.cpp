#include "app/config.h"

#include "tests/fuzz/targets.h"

namespace cover::fuzz {
namespace {

std::string as_toml(const std::string& path) {
    app::ConfigSources sources;
    sources.file = path;
    return app::config_toml(app::resolve_config(sources));
}

}  // namespace

void config(const unsigned char* data, std::size_t size) {
    const std::string path = as_file(data, size);
    std::string written;
    if (only(ErrorKind::configuration, [&] { written = as_toml(path); })) return;
    const std::string again = as_file(reinterpret_cast<const unsigned char*>(written.data()), written.size());
    only(ErrorKind::internal, [&] {
        if (as_toml(again) != written) broken("a configuration that was written differs when it is read: " + written);
    });
}

}  // namespace cover::fuzz
