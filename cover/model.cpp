#include "cover/model.h"

#include <charconv>
#include <cmath>
#include <set>

#include "autograd/ops.h"

namespace cover {
namespace {

// `mov.grid`, the offsets in the authors' state_dict: a constant (side, side[, side], nd), first axis slowest.
Tensor offset_grid(int spatial_dims, int radius, DType dtype) {
    const std::int64_t side = 2 * radius + 1;
    Shape shape;
    for (int axis = 0; axis < spatial_dims; ++axis) shape.append(side);
    shape.append(spatial_dims);
    Tensor grid = Tensor::empty(shape, DType::float32);
    std::int64_t out = 0;
    const std::int64_t offsets = shape.count() / spatial_dims;
    for (std::int64_t o = 0; o < offsets; ++o)
        for (int axis = 0; axis < spatial_dims; ++axis) {
            std::int64_t divisor = 1;
            for (int later = axis + 1; later < spatial_dims; ++later) divisor *= side;
            grid.data<float>()[out++] = static_cast<float>(o / divisor % side - radius);
        }
    return grid.converted(dtype);
}

template <class List>
std::string joined(const List& values) {
    std::string out;
    for (const auto& v : values) out += text(out.empty() ? "" : ",", v);
    return out;
}

std::vector<std::int64_t> parse_integers(const std::string& list, const std::string& key, const std::string& source) {
    std::vector<std::int64_t> values;
    const char* at = list.data();
    const char* end = at + list.size();
    while (at < end) {
        std::int64_t value = 0;
        const auto [next, error] = std::from_chars(at, end, value);
        require(error == std::errc{} && (next == end || *next == ',') && value >= 1 && value <= 1'000'000,
                ErrorKind::data, "[weights] ", source, ": the metadata '", key, "' is '", list,
                "', which is not a list of positive integers");
        values.push_back(value);
        at = next == end ? end : next + 1;
    }
    return values;
}

}  // namespace

Model::Model(const ModelConfig& config, DType dtype, Device device)
    : config_(config),
      dtype_(dtype),
      parameters_(config.spatial_dims),
      unet_(parameters_, config.in_channels, config.channels),
      pyramid_(parameters_, config.channels, config.heads, config.head_dim, config.radius, config.levels, config.warp) {
    parameters_.allocate(real_type(dtype), device);
}

Model::Prediction Model::predict(Graph& graph, const Var& views, std::vector<PyramidLevel>* trace) const {
    Prediction out;
    for (const Var& feature : features(graph, views)) {
        auto [moving, fixed] = split_batch(graph, feature);
        out.moving.push_back(std::move(moving));
        out.fixed.push_back(std::move(fixed));
    }
    out.field = pyramid_(graph, parameters_, out.moving, out.fixed, trace);
    return out;
}

std::vector<Var> Model::features(Graph& graph, const Var& images) const {
    return unet_(graph, parameters_, cast(graph, images, dtype_), 5);
}

std::vector<NamedTensor> Model::to_file(bool backbone_only) const {
    std::vector<NamedTensor> file;
    for (std::size_t i = 0; i < parameters_.list().size(); ++i) {
        const Parameter& p = parameters_.list()[i];
        if (backbone_only && !p.name.starts_with("backbone.")) continue;
        file.push_back({p.name, parameters_.to_file(parameters_.values(), static_cast<int>(i))});
    }
    if (!backbone_only)
        file.push_back({"mov.grid", offset_grid(config_.spatial_dims, config_.radius, parameters_.values().dtype())});
    return file;
}

void Model::load(const std::vector<NamedTensor>& tensors, const std::string& source, bool backbone_only) {
    std::map<std::string, const Tensor*> given;
    for (const NamedTensor& t : tensors) given[t.name] = &t.tensor;
    std::string missing, unexpected, misshaped;
    const auto note = [](std::string& list, const std::string& item) { list += (list.empty() ? "" : ", ") + item; };
    for (const NamedTensor& t : tensors)
        require(t.tensor.all_finite(), ErrorKind::data, "[weights] ", source, ": tensor ", t.name,
                " holds a value that is NaN or infinite; take another file");
    for (const Parameter& p : parameters_.list()) {
        const auto it = given.find(p.name);
        if (it == given.end()) {
            if (!backbone_only || p.name.starts_with("backbone.")) note(missing, p.name);
            continue;
        }
        if (it->second->shape() != p.file_shape)
            note(misshaped,
                 text(p.name, " ", it->second->shape().to_string(), " instead of ", p.file_shape.to_string()));
    }
    std::set<std::string> known{"mov.grid"};
    for (const Parameter& p : parameters_.list()) known.insert(p.name);
    for (const auto& [name, tensor] : given)
        if (!known.contains(name)) note(unexpected, name);
    if (const auto it = given.find("mov.grid"); it != given.end()) {
        const Tensor expected = offset_grid(config_.spatial_dims, config_.radius, DType::float64);
        const Tensor got = it->second->converted(DType::float64);
        bool same = got.shape() == expected.shape();
        for (std::int64_t i = 0; same && i < got.count(); ++i)
            same = got.data<double>()[i] == expected.data<double>()[i];
        if (!same)
            note(misshaped, text("mov.grid ", got.shape().to_string(), " is not the grid of radius ", config_.radius));
    }
    std::string problem;
    if (!missing.empty()) problem += " missing: " + missing + ";";
    if (!unexpected.empty()) problem += " unexpected: " + unexpected + ";";
    if (!misshaped.empty()) problem += " of another shape: " + misshaped + ";";
    require(problem.empty(), ErrorKind::data, "[weights] ", source, " does not fit this network:", problem,
            " check dimensions, channels, heads and radius");
    for (std::size_t i = 0; i < parameters_.list().size(); ++i)
        if (const auto it = given.find(parameters_.list()[i].name); it != given.end())
            parameters_.from_file(parameters_.values(), static_cast<int>(i), *it->second);
}

std::map<std::string, std::string> to_metadata(const ModelConfig& config) {
    return {
        {"dims", text(config.spatial_dims)},   {"in_channels", text(config.in_channels)},
        {"channels", joined(config.channels)}, {"head_dim", text(config.head_dim)},
        {"heads", joined(config.heads)},       {"radius", text(config.radius)},
        {"levels", text(config.levels)},       {"warp", config.warp == WarpConvention::exact ? "exact" : "reference"}};
}

ModelConfig from_metadata(const std::map<std::string, std::string>& metadata, const std::string& source) {
    const auto value = [&](const std::string& key) {
        const auto it = metadata.find(key);
        require(it != metadata.end(), ErrorKind::data, "[weights] ", source, " has no metadata '", key,
                "'; it was not written by this program");
        return it->second;
    };
    const auto integers = [&](const std::string& key, std::size_t count, std::int64_t most) {
        auto list = parse_integers(value(key), key, source);
        require(list.size() == count, ErrorKind::data, "[weights] ", source, ": the metadata '", key, "' has ",
                list.size(), " values, ", count, " are needed");
        for (const std::int64_t n : list)
            require(n <= most, ErrorKind::data, "[weights] ", source, ": the metadata '", key, "' has ", n,
                    "; this program goes up to ", most);
        return list;
    };
    ModelConfig config;
    config.spatial_dims = static_cast<int>(integers("dims", 1, 3)[0]);
    require(config.spatial_dims == 2 || config.spatial_dims == 3, ErrorKind::data, "[weights] ", source,
            ": the metadata 'dims' must be 2 or 3");
    config.in_channels = integers("in_channels", 1, 1 << 16)[0];
    config.channels = integers("channels", 9, 1 << 16);
    for (const std::int64_t n : config.channels)
        require(n % 8 == 0, ErrorKind::data, "[weights] ", source, ": the metadata 'channels' has ", n,
                "; each is a multiple of 8");
    config.head_dim = static_cast<int>(integers("head_dim", 1, 1024)[0]);
    const auto heads = integers("heads", 5, 1024);
    config.heads.assign(heads.begin(), heads.end());
    config.radius = static_cast<int>(integers("radius", 1, 64)[0]);
    config.levels = static_cast<int>(integers("levels", 1, 5)[0]);
    const std::string warp = value("warp");
    require(warp == "exact" || warp == "reference", ErrorKind::data, "[weights] ", source,
            ": the metadata 'warp' must be exact or reference, not '", warp, "'");
    config.warp = warp == "exact" ? WarpConvention::exact : WarpConvention::reference;
    return config;
}

}  // namespace cover
