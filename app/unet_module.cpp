#include "app/unet_module.h"

#include <filesystem>

#include "app/cover_unet_text.h"  // made by CMake: unet_text, the bytes of app/cover_unet.py
#include "core/check.h"
#include "core/file.h"

namespace cover::app {
namespace {

// The lines between these two are the network.
constexpr std::string_view first_line = "DIMS = ";
constexpr std::string_view end_mark = "# End of the network.\n";
// How a file that an export wrote begins.
constexpr std::string_view title = "\"\"\"COVER as one PyTorch module";

std::string module_path(const std::string& weights) {
    return (std::filesystem::path(weights).parent_path() / "cover_unet.py").string();
}

template <class List>
std::string tuple(const List& values) {
    std::string out;
    for (const auto value : values) out += text(out.empty() ? "(" : ", ", value);
    return out + ")";
}

}  // namespace

std::string unet_module(const ModelConfig& config) {
    const std::string whole(unet_text);
    const auto begin = whole.find(first_line), end = whole.find(end_mark);
    require(whole.starts_with(title) && begin != std::string::npos && end != std::string::npos && begin < end,
            ErrorKind::internal, "[export] app/cover_unet.py has lost the marks around its constants");
    const std::string network =
        text("DIMS = ", config.spatial_dims, "  # spatial axes of an image\n",                     //
             "IN_CHANNELS = ", config.in_channels, "  # 1: gray, 3: colour\n",                     //
             "CHANNELS = ", tuple(config.channels),                                                //
             "  # of the U-Net: four steps down to the bottom and up again\n",                     //
             "HEAD_DIM = ", config.head_dim, "  # channels of one attention head\n",               //
             "HEADS = ", tuple(config.heads), "  # per level of the pyramid, coarse to fine\n",    //
             "RADIUS = ", config.radius, "  # of the attention window, in pixels of the level\n",  //
             "LEVELS = ", config.levels, "  # of the pyramid, from the coarsest on\n",             //
             "WARP = \"", config.warp == WarpConvention::exact ? "exact" : "reference",            //
             "\"  # how a displacement is read: see warp()\n");
    return whole.substr(0, begin) + network + whole.substr(end);
}

void refuse_foreign_module(const std::string& weights) {
    const auto path = module_path(weights);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return;
    require(std::filesystem::is_regular_file(path, error) && read_file(path, std::uint64_t{1} << 24).starts_with(title),
            ErrorKind::io, "[export] ", path,
            ": is there and was not written by `cover export`; move it away or export into another folder");
}

std::string write_unet_module(const std::string& weights, const ModelConfig& config) {
    refuse_foreign_module(weights);
    const auto path = module_path(weights);
    write_file(path, unet_module(config));
    return path;
}

}  // namespace cover::app
