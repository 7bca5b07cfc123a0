// cover prepare: pictures and foreign files -> one patch file.
#include "data/prepare.h"

#include <unistd.h>

#include <charconv>
#include <cstdio>

#include "app/commands.h"
#include "core/check.h"

namespace cover::app {
namespace {

// "1,1,2.5" as `count` numbers, or as any number of them where count is 0.
std::vector<double> parse_numbers(const std::string& list, const char* option, std::size_t count) {
    std::vector<double> numbers;
    const char* at = list.data();
    const char* const last = at + list.size();
    for (;;) {
        double value = 0;
        const auto [end, error] = std::from_chars(at, last, value);
        require(error == std::errc() && (end == last || *end == ','), ErrorKind::usage, "[prepare] ", option, ": '",
                list, "' is no list of numbers, as in 1,1,2.5");
        numbers.push_back(value);
        if (end == last) break;
        at = end + 1;
    }
    require(count == 0 || numbers.size() == count, ErrorKind::usage, "[prepare] ", option, ": '", list, "' has ",
            numbers.size(), " numbers; ", count, " are expected");
    return numbers;
}

cover::PrepareOptions translated(const PrepareOptions& options) {
    cover::PrepareOptions out;
    out.inputs = options.inputs;
    out.out = options.out;
    if (!options.size.empty()) out.size = parse_sides(options.size);
    if (!options.spacing.empty()) out.spacing = parse_numbers(options.spacing, "--spacing", 0);
    out.keep_aspect = options.keep_aspect;
    if (!options.normalize.empty()) out.normalise = parse_normalisation(options.normalize);
    if (!options.window.empty()) {
        const auto window = parse_numbers(options.window, "--window", 2);
        require(window[0] < window[1], ErrorKind::usage, "[prepare] --window: '", options.window,
                "' does not ascend; LO,HI is expected");
        out.window = std::array<double, 2>{window[0], window[1]};
        // A window without a word on normalisation can only mean this.
        if (options.normalize.empty()) out.normalise = Normalisation::ct;
    }
    if (!options.store.empty()) out.store = parse_store(options.store);
    require(options.channels_in == 1 || options.channels_in == 3, ErrorKind::usage, "[prepare] --channels-in: is ",
            options.channels_in, "; 1 or 3 is expected");
    out.channels_in = options.channels_in;
    out.labels = options.labels;
    out.split = options.split;
    out.strict = options.strict;
    return out;
}

}  // namespace

int run(const PrepareOptions& options) {
    auto wanted = translated(options);
    const bool terminal = ::isatty(STDERR_FILENO) == 1;
    if (terminal)
        wanted.progress = [](std::int64_t done, std::int64_t total) {
            std::fprintf(stderr, "\r\033[K%lld of %lld files", static_cast<long long>(done),
                         static_cast<long long>(total));
        };
    PrepareResult result;
    try {
        result = prepare(wanted);
    } catch (...) {
        if (terminal) std::fprintf(stderr, "\r\033[K");
        throw;
    }
    if (terminal) std::fprintf(stderr, "\r\033[K");
    for (const auto& bad : result.bad) std::fprintf(stderr, "%s\n", bad.sentence.c_str());
    for (const auto& note : result.notes) std::fprintf(stderr, "%s\n", note.c_str());
    if (!result.bad.empty()) std::fprintf(stderr, "%zu inputs were skipped\n", result.bad.size());
    const Grid& g = result.grid;
    const auto sides = g.spatial_dims == 2 ? text(g.h, " x ", g.w) : text(g.d, " x ", g.h, " x ", g.w);
    std::fprintf(stderr, "%s: %lld images of %s, %d channels, %s\n", options.out.c_str(),
                 static_cast<long long>(result.written), sides.c_str(), result.channels, name_of(result.store));
    std::printf("samples %lld\nskipped %zu\n", static_cast<long long>(result.written), result.bad.size());
    return 0;
}

}  // namespace cover::app
