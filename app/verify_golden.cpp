// cover verify golden: a recorded model against what this program computes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/machine.h"
#include "core/check.h"
#include "cover/golden.h"
#include "data/h5.h"
#include "data/h5_write.h"

namespace cover::app {
namespace {

constexpr std::int64_t most_elements = std::int64_t{1} << 28;  // of one array: golden files are small

Tensor tensor_of(const H5File& file, const std::string& path) {
    const auto& dataset = file.dataset(path);
    require(dataset.type.kind == H5Kind::floating, ErrorKind::data, "[golden] ", file.path(), ": ", path,
            " holds no floating-point numbers");
    require(dataset.shape.size() <= static_cast<std::size_t>(Shape::max_rank), ErrorKind::data, "[golden] ",
            file.path(), ": ", path, " has ", dataset.shape.size(), " dimensions");
    Shape shape;
    for (const auto side : dataset.shape) shape.append(side);
    require(dataset.count() >= 1 && dataset.count() <= most_elements, ErrorKind::data, "[golden] ", file.path(), ": ",
            path, " has ", dataset.count(), " elements");
    const auto values = file.read_doubles(dataset);
    Tensor tensor = Tensor::empty(shape, DType::float64);
    std::copy(values.begin(), values.end(), tensor.data<double>());
    return tensor;
}

std::vector<NamedTensor> tensors_of(const H5File& file, const std::string& group) {
    std::vector<NamedTensor> tensors;
    const std::string prefix = group + "/";
    for (const auto& [path, dataset] : file.datasets())
        if (path.rfind(prefix, 0) == 0) tensors.push_back({path.substr(prefix.size()), tensor_of(file, path)});
    require(!tensors.empty(), ErrorKind::data, "[golden] ", file.path(), ": there is nothing in ", group,
            "; is it a golden file?");
    return tensors;
}

std::int64_t whole_number(const H5File& file, const std::string& name, double value, double least, double most) {
    require(value >= least && value <= most && value == std::floor(value), ErrorKind::data, "[golden] ", file.path(),
            ": attribute ", name, " is ", value, "; a whole number from ", least, " to ", most, " is expected");
    return static_cast<std::int64_t>(value);
}

ModelConfig model_of(const H5File& file, WarpConvention warp) {
    ModelConfig model;
    const auto dimensions = file.string("/", "dimensions");
    require(dimensions == "2D" || dimensions == "3D", ErrorKind::data, "[golden] ", file.path(),
            ": attribute dimensions is '", dimensions, "'; 2D or 3D is expected");
    model.spatial_dims = dimensions == "2D" ? 2 : 3;
    model.in_channels = whole_number(file, "n_channels", file.number("/", "n_channels"), 1, 1024);
    model.head_dim = static_cast<int>(whole_number(file, "head_dim", file.number("/", "head_dim"), 1, 1024));
    model.radius = static_cast<int>(whole_number(file, "amp", file.number("/", "amp"), 1, 64));
    model.warp = warp;
    model.channels.clear();
    for (const double n : file.numbers("/", "chan")) model.channels.push_back(whole_number(file, "chan", n, 8, 65536));
    model.heads.clear();
    for (const double n : file.numbers("/", "num_heads"))
        model.heads.push_back(static_cast<int>(whole_number(file, "num_heads", n, 1, 1024)));
    require(model.channels.size() == 9 && model.heads.size() == 5, ErrorKind::data, "[golden] ", file.path(),
            ": attributes chan and num_heads need nine and five numbers, there are ", model.channels.size(), " and ",
            model.heads.size());
    for (const auto n : model.channels)
        require(n % 8 == 0, ErrorKind::data, "[golden] ", file.path(), ": attribute chan has ", n,
                "; each is a multiple of 8");
    return model;
}

GoldenCase case_of(const H5File& file, WarpConvention warp) {
    const std::string group = text("/", name_of(warp));
    GoldenCase golden;
    golden.model = model_of(file, warp);
    golden.lr = file.number("/", "lr");
    golden.weight_decay = file.number("/", "weight_decay");
    golden.clip = file.number("/", "clip_norm");
    golden.weights = tensors_of(file, "/weights");
    golden.moving = tensor_of(file, "/input/M");
    golden.fixed = tensor_of(file, "/input/F");
    golden.field = tensor_of(file, "/input/flow_gt");
    golden.mask = tensor_of(file, "/input/mask");
    golden.flow = tensor_of(file, group + "/step0/flow");
    golden.features_moving = tensor_of(file, group + "/step0/f_M");
    golden.features_fixed = tensor_of(file, group + "/step0/f_F");
    for (std::size_t step = 0; step < 3; ++step) {
        const auto at = text(group, "/step", step);
        golden.steps[step] = {file.number(at, "loss_vec"), file.number(at, "loss_con"), file.number(at, "grad_norm")};
    }
    golden.gradients = tensors_of(file, group + "/step0/grad");
    golden.weights_after = tensors_of(file, group + "/step2/weights_after");

    const auto& image = golden.moving.shape();
    const int dims = golden.model.spatial_dims;
    require(image.rank() == dims + 2 && image == golden.fixed.shape() && image[1] == golden.model.in_channels,
            ErrorKind::data, "[golden] ", file.path(), ": /input/M and /input/F have the shapes ", image.to_string(),
            " and ", golden.fixed.shape().to_string(), "; (batch, ", golden.model.in_channels, ", ", dims,
            " sides) is expected");
    Shape field = image, mask = image;
    field[1] = dims;
    mask[1] = 1;
    require(golden.field.shape() == field && golden.mask.shape() == mask, ErrorKind::data, "[golden] ", file.path(),
            ": /input/flow_gt and /input/mask do not fit images of ", image.to_string());
    for (int axis = 2; axis < image.rank(); ++axis)
        require(image[axis] % 16 == 0, ErrorKind::data, "[golden] ", file.path(), ": /input/M has a side of ",
                image[axis], "; a multiple of 16 is expected");
    return golden;
}

// Recorded affine maps and their fields; `flow` within 2e-6 for each.
std::vector<GoldenCheck> check_affine(const H5File& file) {
    std::vector<GoldenCheck> checks;
    for (const auto& [path, dataset] : file.datasets()) {
        const auto slash = path.rfind('/');
        if (path.substr(slash + 1) != "flow") continue;
        const std::string group = path.substr(0, slash);
        const Tensor expected = tensor_of(file, path);
        const int dims = expected.shape().rank() - 1;
        require((dims == 2 || dims == 3) && expected.shape()[0] == dims, ErrorKind::data, "[golden] ", file.path(),
                ": ", path, " has the shape ", expected.shape().to_string(), "; (nd, sides) is expected");
        const auto value = [&](const char* name) { return file.number(group, name); };
        AffineDraw draw;
        const char* axes[] = {"x", "y", "z"};
        for (std::size_t a = 0; a < static_cast<std::size_t>(dims); ++a) {
            draw.angle[a] = value(text("angle_", axes[a]).c_str());
            draw.scale[a] = value(text("scale_", axes[a]).c_str());
            draw.translation[a] = value(text("trans_", axes[a]).c_str());
        }
        draw.shear.xy = value("shear_xy");
        draw.shear.yx = value("shear_yx");
        if (dims == 3) {
            draw.shear.xz = value("shear_xz");
            draw.shear.yz = value("shear_yz");
            draw.shear.zx = value("shear_zx");
            draw.shear.zy = value("shear_zy");
        }
        std::array<std::int64_t, 3> sides{1, 1, 1};
        for (int axis = 0; axis < dims; ++axis)
            sides[static_cast<std::size_t>(3 - dims + axis)] = expected.shape()[axis + 1];
        const auto map = affine_map(draw, dims, sides);
        double error = 0, norm = 0;
        std::int64_t i = 0;
        for (int c = 0; c < dims; ++c)
            for (std::int64_t d = 0; d < sides[0]; ++d)
                for (std::int64_t h = 0; h < sides[1]; ++h)
                    for (std::int64_t w = 0; w < sides[2]; ++w, ++i) {
                        const double got = affine_displacement(map, 3 - dims + c, static_cast<double>(d),
                                                               static_cast<double>(h), static_cast<double>(w));
                        const double difference = got - expected.data<double>()[i];
                        error += difference * difference;
                        norm += expected.data<double>()[i] * expected.data<double>()[i];
                    }
        checks.push_back({group.substr(1) + " flow", norm > 0 ? std::sqrt(error / norm) : std::sqrt(error), 2e-6});
    }
    return checks;
}

std::vector<std::int64_t> sides_of(const Shape& shape) {
    std::vector<std::int64_t> sides;
    for (int axis = 0; axis < shape.rank(); ++axis) sides.push_back(shape[axis]);
    return sides;
}

void write_tensor(H5Writer& writer, const std::string& path, const Tensor& tensor) {
    if (tensor.dtype() == DType::float64)
        writer.doubles(path, sides_of(tensor.shape()), tensor.data<double>());
    else
        writer.floats(path, sides_of(tensor.shape()), tensor.data<float>());
}

void write_scalar(H5Writer& writer, const std::string& path, double value, DType dtype) {
    const auto single = static_cast<float>(value);
    if (dtype == DType::float64)
        writer.doubles(path, {}, &value);
    else
        writer.floats(path, {}, &single);
}

void dump(const std::string& path, const GoldenResult& result, DType dtype) {
    H5Writer writer(path);
    write_tensor(writer, "/flow", result.flow);
    write_tensor(writer, "/f_M", result.features_moving);
    write_tensor(writer, "/f_F", result.features_fixed);
    write_scalar(writer, "/loss_vec", result.steps[0].loss_vec, dtype);
    write_scalar(writer, "/loss_con", result.steps[0].loss_con, dtype);
    for (const auto& [name, tensor] : result.gradients) write_tensor(writer, "/grad/" + name, tensor);
    for (const auto& [name, tensor] : result.weights_after) write_tensor(writer, "/weights_after/" + name, tensor);
    writer.commit();
}

void print_checks(const std::vector<GoldenCheck>& checks, const std::string& where) {
    for (const auto& check : checks)
        std::printf("%-10s %-64s error %-9.3g tolerance %-7.3g %s\n", where.c_str(), check.name.c_str(), check.error,
                    check.tolerance,
                    !check.ok()      ? "FAILED"
                    : check.tested() ? "ok"
                                     : "not tested");
}

// The constant offsets of the authors' state_dict are a check like the others, not a file that cannot be read.
GoldenCheck check_grid(GoldenCase& golden) {
    GoldenCheck check{"weights/mov.grid", 0, 0};
    const auto at = std::find_if(golden.weights.begin(), golden.weights.end(),
                                 [](const NamedTensor& t) { return t.name == "mov.grid"; });
    if (at == golden.weights.end()) return check;
    const Tensor grid = at->tensor;
    golden.weights.erase(at);
    const std::int64_t dims = golden.model.spatial_dims, side = 2 * golden.model.radius + 1;
    const std::int64_t offsets = dims == 2 ? side * side : side * side * side;
    if (grid.count() != offsets * dims) {
        check.error = std::numeric_limits<double>::infinity();
        return check;
    }
    for (std::int64_t o = 0; o < offsets; ++o)
        for (std::int64_t axis = 0, rest = o; axis < dims; ++axis, rest /= side) {
            const double expected = static_cast<double>(rest % side - golden.model.radius);
            const double difference = std::abs(grid.data<double>()[o * dims + dims - 1 - axis] - expected);
            if (!(difference <= check.error)) check.error = difference;
        }
    return check;
}

}  // namespace

int run(const VerifyGoldenOptions& options) {
    TrainConfig config = resolve_config(options.config);
    Machine machine(config);
    const DType dtype = machine.dtype();
    std::vector<WarpConvention> conventions{WarpConvention::reference, WarpConvention::exact};
    if (options.warp_given) conventions = {config.warp};

    auto report = nlohmann::ordered_json::array();
    std::int64_t failed = 0, total = 0;
    const auto note = [&](const std::string& path, const std::string& where, const std::vector<GoldenCheck>& checks) {
        if (!options.json) print_checks(checks, where);
        for (const auto& check : checks) {
            total += check.tested() || !check.ok();
            failed += !check.ok();
            report.push_back({{"file", path},
                              {"warp", where},
                              {"name", check.name},
                              {"error", check.error},
                              {"tolerance", check.tolerance},
                              {"tested", check.tested()},
                              {"ok", check.ok()}});
        }
    };
    for (const auto& path : options.files) {
        const auto file = H5File::open(path);
        if (!file.has_group("/weights")) {
            const auto checks = check_affine(file);
            require(!checks.empty(), ErrorKind::data, "[golden] ", path,
                    ": has neither /weights nor a recorded flow; is it a golden file?");
            require(options.dump.empty(), ErrorKind::usage,
                    "[verify golden] --dump: a file of affine maps has nothing to dump");
            note(path, "affine", checks);
            continue;
        }
        for (const auto convention : conventions) {
            GoldenCase golden = case_of(file, convention);
            const GoldenCheck grid = check_grid(golden);
            GoldenResult result = run_golden(golden, dtype, machine.stream());
            result.checks.insert(result.checks.begin(), grid);
            note(path, name_of(convention), result.checks);
            if (!options.dump.empty() && convention == conventions.back() && result.flow.defined())
                dump(options.dump, result, dtype);
        }
    }
    if (options.json)
        std::printf("%s\n", nlohmann::ordered_json{{"ok", failed == 0},
                                                   {"failed", failed},
                                                   {"checks", std::move(report)},
                                                   {"precision", name_of(config.precision)}}
                                .dump(1)
                                .c_str());
    else
        std::printf("%lld of %lld checks passed in %s\n", static_cast<long long>(total - failed),
                    static_cast<long long>(total), name_of(config.precision));
    return failed == 0 ? 0 : static_cast<int>(ErrorKind::verification);
}

}  // namespace cover::app
