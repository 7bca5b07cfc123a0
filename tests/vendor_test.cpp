// cuDNN and cuBLAS as rows: what is said where they are missing, broken or without a device, and the whole of a row
// over the emulation with stand-ins that check every descriptor and compute on the host (tests/vendor/). What only the
// true libraries on a GPU can show, the "every row" tests show there.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "core/file.h"
#include "kernels/cuda/vendor/rows.cuh"
#include "tests/op_conv.h"
#include "tests/run_program.h"

#if !defined(COVER_PRETEND_VENDOR)
#define COVER_PRETEND_VENDOR "/nowhere"
#endif

namespace cover::test {
namespace {

namespace fs = std::filesystem;
using vendor::Library, vendor::Plugin, vendor::Text;

// Why a test cannot have a plug-in or stand-ins of its own; empty where it can. A bundle has no stand-ins.
std::string why_none() {
    if (!vendor::plugin().functions) return vendor::plugin().where;
    return fs::exists(COVER_PRETEND_VENDOR "/libcudnn.so.9") ? "" : "the stand-ins for cuDNN and cuBLAS are not here";
}

// Sets a variable of this process for a scope.
class Environment {
public:
    Environment(const char* name, const std::string& value) : name_(name) {
        if (const char* const before = std::getenv(name)) before_ = before;
        setenv(name, value.c_str(), 1);
    }
    ~Environment() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
    Environment(const Environment&) = delete;

private:
    const char* name_;
    std::optional<std::string> before_;
};

// A plug-in with a state of its own, that of a copied file, which looks for libraries in `folder` alone.
class OwnPlugin {
public:
    explicit OwnPlugin(const std::string& folder) : search_("COVER_VENDOR_PATH", folder) {
        fs::copy_file(vendor::plugin().where, copy_.path() + "/libcover_vendor.so");
        plugin_ = vendor::open_plugin({copy_.path()});
        REQUIRE_MESSAGE(plugin_.functions != nullptr, plugin_.where);
    }
    const Plugin& get() const { return plugin_; }
    std::string open(Library library, bool* there = nullptr) const {
        Text text;
        const bool found = plugin_.functions->open(library, &text);
        if (there) *there = found;
        return text.characters;
    }

private:
    Environment search_;
    TemporaryFolder copy_;
    Plugin plugin_;
};

// The same with the stand-ins, in the place of the program's plug-in.
class Pretended {
public:
    Pretended() : own_(COVER_PRETEND_VENDOR), kept_(std::exchange(vendor::plugin(), own_.get())) {}
    ~Pretended() { vendor::plugin() = kept_; }
    Pretended(const Pretended&) = delete;
    const OwnPlugin& own() const { return own_; }

private:
    OwnPlugin own_;
    Plugin kept_;
};

int kind_of(const std::function<void()>& body, std::string* sentence) {
    try {
        body();
    } catch (const Error& error) {
        *sentence = error.what();
        return static_cast<int>(error.kind());
    }
    return 0;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<ConvParams> cases() {
    return {{1, {2, 1, 3, 5}, 8, 8, 3},    {2, {2, 1, 4, 3}, 1, 32, 3},  {2, {3, 3, 2, 4}, 8, 16, 3},
            {1, {3, 2, 3, 3}, 16, 4, 1},   {1, {2, 1, 3, 4}, 40, 72, 3}, {1, {2, 1, 37, 70}, 3, 8, 1},
            {1, {2, 1, 24, 25}, 8, 40, 1}, {1, {2, 1, 1, 1}, 72, 40, 3}};
}

// The float64 reference and the vendors' rows in float32, as a table for the harness.
template <class Test, class Row>
Test over_emulation(Test test, std::span<const Row> rows) {
    static std::vector<Row> table;
    table.clear();
    for (const Row& row : test.table)
        if (std::string(row.name) == "ref" && row.dtype == DType::float64) table.push_back(row);
    for (const Row& row : rows)
        if (row.dtype == DType::float32) table.push_back(row);
    test.table = table;
    test.cases = cases();
    return test;
}

template <class Test>
void check_rows(const Test& test) {
    std::map<std::string, int> checked;
    for (const auto& row : test.table)
        for (const ConvParams& p : test.cases) {
            if (std::string(row.name) == "ref" || !row.can_run(p, *device_stream(Device::emulated)->facts)) continue;
            ++checked[text(row.name, row.math == Math::tf32 ? " tf32" : " exact")];
            const std::string sentence = check_row(test, row, p);
            CHECK_MESSAGE(sentence.empty(), test.op, ":", row.name, " ", test.describe(p), ": ", sentence);
        }
    CHECK(checked == std::map<std::string, int>{{"vendor_cublas exact", 3},
                                                {"vendor_cublas tf32", 3},
                                                {"vendor_cudnn exact", 8},
                                                {"vendor_cudnn tf32", 8}});
}

template <class Row>
const Row* find_row(std::span<const Row> rows, const std::string& name, DType dtype, Math math = Math::exact) {
    for (const Row& row : rows)
        if (row.name == name && row.dtype == dtype && row.math == math) return &row;
    return nullptr;
}

Tensor on_emulated(const Tensor& values, DType dtype) { return rounded_to(values, dtype, dtype).to(Device::emulated); }

vendor::Convolution key_of(vendor::Pass pass, const ConvParams& p, vendor::Element element, bool tf32) {
    return {.pass = static_cast<std::int64_t>(pass),
            .spatial_dims = p.grid.spatial_dims,
            .kernel = p.kernel,
            .n = p.n,
            .d = p.grid.d,
            .h = p.grid.h,
            .w = p.grid.w,
            .c_in = p.c_in,
            .c_out = p.c_out,
            .element = static_cast<std::int64_t>(element),
            .tf32 = tf32};
}

}  // namespace

namespace emulated = cuda::emulated::vendor;

TEST_CASE("vendor: a plug-in that is absent, cut short, damaged or something else is a sentence") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/libcover_vendor.so";
    const auto sentence = [&] {
        const Plugin plugin = vendor::open_plugin({"/nowhere", folder.path()});
        CHECK(plugin.functions == nullptr);
        return plugin.where;
    };
    CHECK(contains(sentence(), "is not there, looked for in /nowhere, " + folder.path()));
    write_file(path, "no library");
    CHECK(contains(sentence(), path + ": is no shared library"));
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    const std::string whole = read_file(vendor::plugin().where);
    write_file(path, whole.substr(0, 8192));
    CHECK(contains(sentence(), "is cut short"));
    std::string damaged = whole;
    damaged[18] = 40;  // of another machine
    write_file(path, damaged);
    CHECK(contains(sentence(), "[vendor] the plug-in cannot be opened: "));
    // A library without our function: a stand-in is one.
    fs::remove(path);
    fs::copy_file(COVER_PRETEND_VENDOR "/libcublas.so.13", path);
    CHECK(contains(sentence(), "belongs to another version"));
    fs::remove(path);
    fs::copy_file(vendor::plugin().where, path);
    CHECK(vendor::open_plugin({"/nowhere", folder.path()}).where == path);
}

TEST_CASE("vendor: a library that is absent or damaged is a sentence: what, where, what to do") {
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    const TemporaryFolder folder;
    bool there = true;
    {
        const OwnPlugin plugin(folder.path() + ":/nowhere");
        const std::string cudnn = plugin.open(Library::cudnn, &there);
        CHECK_FALSE(there);
        CHECK(cudnn == text("[vendor] cuDNN is not there: looked for libcudnn.so.9 in ", folder.path(),
                            ", /nowhere; install it (pip install nvidia-cudnn-cu13), or name its folder in "
                            "COVER_VENDOR_PATH"));
        CHECK(contains(plugin.open(Library::cublas), "libcublas.so.13 or libcublas.so.12"));
    }
    write_file(folder.path() + "/libcudnn.so.9", "no library");
    const std::string cublas = read_file(COVER_PRETEND_VENDOR "/libcublas.so.13");
    write_file(folder.path() + "/libcublas.so.13", cublas.substr(0, 8192));
    {
        const OwnPlugin plugin(folder.path());
        CHECK(contains(plugin.open(Library::cudnn), folder.path() + "/libcudnn.so.9: is no shared library"));
        CHECK(contains(plugin.open(Library::cublas, &there), "is cut short"));
        CHECK_FALSE(there);
    }
    // The name of one in the file of the other: a function is missing.
    write_file(folder.path() + "/libcudnn.so.9", cublas);
    {
        const OwnPlugin plugin(folder.path());
        CHECK(contains(plugin.open(Library::cudnn), "has no cudnnGetVersion"));
    }
}

TEST_CASE("vendor: the true libraries, where they are installed") {
    const Plugin& plugin = vendor::plugin();
    if (!plugin.functions) return skip(plugin.where);
    const bool device = device_stream(Device::cuda) != nullptr;
    std::string absent;
    for (const auto& [library, name] :
         {std::pair{Library::cudnn, "cuDNN 9."}, std::pair{Library::cublas, "cuBLAS 1"}}) {
        const vendor::Found found = vendor::find(library);
        if (!found.there) {
            absent += " " + found.where;
            continue;
        }
        CHECK(contains(found.where, name));
        vendor::Convolution pass{.h = 64, .w = 64, .c_in = 32, .c_out = 32};
        if (library == Library::cublas) pass.kernel = 1;
        vendor::Element weight{};
        Text text;
        const std::int64_t bytes = plugin.functions->workspace(library, &pass, &weight, &text);
        if (device)
            CHECK_MESSAGE(bytes >= 0, text.characters);
        else
            CHECK_MESSAGE(contains(text.characters, found.where + " cannot start: "), text.characters);
        CHECK((bytes >= 0) == device);
    }
    if (!absent.empty()) skip(text("not installed:", absent));
}

TEST_CASE("vendor: on a CUDA device where the libraries are, every kind of layer has its rows") {
    const Stream* stream = device_stream(Device::cuda);
    if (!stream) return skip("no CUDA device: no vendor's row can run");
    for (const Library library : {Library::cudnn, Library::cublas})
        if (const vendor::Found found = vendor::find(library); !found.there) return skip(found.where);
    const auto check = [&](const char* op, const auto& table) {
        int rows = 0;
        for (const auto& row : table) {
            if (!row.by_name_only) continue;
            ++rows;
            for (const ConvParams& p :
                 {ConvParams{2, {2, 1, 64, 64}, 32, 64, 3}, ConvParams{1, {3, 16, 16, 16}, 64, 32, 3},
                  ConvParams{2, {2, 1, 32, 32}, 128, 32, 1}}) {
                if (p.kernel == 3 && std::string(row.name) == "vendor_cublas") continue;
                const std::string why = row.why_not(p, *stream->facts);
                CHECK_MESSAGE(why.empty(), op, ":", row.name, " ", name_of(row.dtype), ": ", why);
            }
        }
        CHECK(rows == 6);
    };
    check("conv", conv_table());
    check("conv_backward_data", conv_backward_data_table());
    check("conv_backward_weight", conv_backward_weight_table());
}

TEST_CASE("vendor: float32 rows over the emulation, with stand-ins for the libraries") {
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    const Pretended pretended;
    check_rows(over_emulation(conv_test(), emulated::forward_rows()));
    check_rows(over_emulation(conv_backward_data_test(), emulated::backward_data_rows()));
    check_rows(over_emulation(conv_backward_weight_test(), emulated::backward_weight_rows()));
}

TEST_CASE("vendor: bfloat16 rows round weights themselves; gradients of weights are float32") {
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    const Pretended pretended;
    Stream& stream = *device_stream(Device::emulated);
    for (const ConvParams& p : {ConvParams{1, {2, 1, 3, 4}, 40, 72, 3}, ConvParams{1, {2, 1, 24, 25}, 8, 15, 1}}) {
        const Tensor x = random_tensor({p.x_count()}, DType::bfloat16, 1),
                     dy = random_tensor({p.y_count()}, DType::bfloat16, 2),
                     weight = random_tensor({p.weight_count()}, DType::float32, 3),
                     bias = random_tensor({p.c_out}, DType::float32, 4),
                     start = random_tensor({p.weight_count()}, DType::float32, 5);
        const Tensor wide_x = x.converted(DType::float64), wide_dy = dy.converted(DType::float64),
                     wide_weight = rounded_to(weight, DType::bfloat16, DType::float64),
                     wide_bias = bias.converted(DType::float64);
        Tensor y = Tensor::empty({p.y_count()}, DType::float64), dx = Tensor::empty({p.x_count()}, DType::float64),
               dweight = start.converted(DType::float64), dbias = wide_bias.clone();
        const ConvParams q = p;
        conv(y.view(), wide_x.view(), wide_weight.view(), wide_bias.view(), q, cpu_stream());
        conv_backward_data(dx.view(), wide_dy.view(), wide_weight.view(), q, cpu_stream());
        conv_backward_weight(dweight.view(), dbias.view(), wide_dy.view(), wide_x.view(), q, cpu_stream());

        for (const char* name : {"vendor_cudnn", "vendor_cublas"}) {
            const auto* forward = find_row(emulated::forward_rows(), name, DType::bfloat16);
            const auto* data = find_row(emulated::backward_data_rows(), name, DType::bfloat16);
            const auto* gradient = find_row(emulated::backward_weight_rows(), name, DType::bfloat16);
            REQUIRE((forward && data && gradient));
            if (!forward->can_run(p, *stream.facts)) {
                CHECK((p.kernel == 3 && std::string(name) == "vendor_cublas"));
                continue;
            }
            const Tensor gx = x.to(Device::emulated), gdy = dy.to(Device::emulated), gw = weight.to(Device::emulated),
                         gb = bias.to(Device::emulated);
            Tensor gy = Tensor::empty({p.y_count()}, DType::bfloat16, Device::emulated),
                   gdx = Tensor::empty({p.x_count()}, DType::bfloat16, Device::emulated),
                   gdw = on_emulated(start, DType::float32), gdb = on_emulated(bias, DType::float32);
            forward->run(gy.view(), gx.const_view(), gw.const_view(), gb.const_view(), p, stream);
            data->run(gdx.view(), gdy.const_view(), gw.const_view(), p, stream);
            gradient->run(gdw.view(), gdb.view(), gdy.const_view(), gx.const_view(), p, stream);
            const double terms = static_cast<double>(p.taps() * p.c_in);
            const auto check = [&](const char* what, const Tensor& got, const Tensor& expected, double scale,
                                   double relative) {
                const std::string sentence =
                    difference(got.to(Device::cpu).const_view(), expected.const_view(), 4 * relative * scale, relative);
                CHECK_MESSAGE(sentence.empty(), name, " ", what, ": ", sentence);
            };
            check("y", gy, y, std::sqrt(terms), 5e-3);
            check("dx", gdx, dx, std::sqrt(static_cast<double>(p.taps() * p.c_out)), 3e-3);
            // 15 outputs: the stand-in then gives gradients in bfloat16 alone, as some of cuDNN's engines do.
            const bool rounded = std::string(name) == "vendor_cudnn" && p.c_out % 8 != 0;
            const double pixels = std::sqrt(static_cast<double>(p.n * p.grid.pixels()));
            check("dweight", gdw, dweight, pixels, rounded ? 3e-3 : 2e-6);
            check("dbias", gdb, dbias, pixels, 2e-6);
            // Left out: the libraries' own part.
            Tensor plain = Tensor::empty({p.y_count()}, DType::bfloat16, Device::emulated);
            forward->run(plain.view(), gx.const_view(), gw.const_view(), ConstView{}, p, stream);
            Tensor unbiased = Tensor::empty({p.y_count()}, DType::float64),
                   none = Tensor::zeros({p.c_out}, DType::float64);
            conv(unbiased.view(), wide_x.view(), wide_weight.view(), none.view(), p, cpu_stream());
            check("y without bias", plain, unbiased, std::sqrt(terms), 3e-3);
            gradient->run(gdw.view(), View{}, gdy.const_view(), gx.const_view(), p, stream);
            check("dbias, not asked for again", gdb, dbias, pixels, 2e-6);
        }
    }
}

TEST_CASE("vendor: the fastest deterministic plan is kept; what is noted as another thing is left out") {
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    const ConvParams p{1, {2, 1, 3, 4}, 8, 8, 3};
    const auto chosen = [&](const Pretended& pretended, Math math, DType dtype) {
        Stream& stream = *device_stream(Device::emulated);
        const auto* row = find_row(emulated::forward_rows(), "vendor_cudnn", dtype, math);
        Tensor x = Tensor::zeros({p.x_count()}, dtype, Device::emulated),
               y = Tensor::zeros({p.y_count()}, dtype, Device::emulated);
        const Tensor weight = Tensor::zeros({p.weight_count()}, DType::float32, Device::emulated);
        row->run(y.view(), x.const_view(), weight.const_view(), ConstView{}, p, stream);
        const auto key =
            key_of(vendor::Pass::forward, p,
                   dtype == DType::bfloat16 ? vendor::Element::bfloat16 : vendor::Element::float32, math == Math::tf32);
        Text text;
        pretended.own().get().functions->describe(Library::cudnn, &key, &text);
        return std::string(text.characters);
    };
    {
        // Of the stand-in's engines 3 and 4 are plain, 3 the slower; 9 fails when it runs; 2 needs tensor cores.
        const Pretended pretended;
        CHECK(chosen(pretended, Math::exact, DType::float32) == "engine 4 of 3 plans, workspace 4000 bytes");
        CHECK(chosen(pretended, Math::tf32, DType::float32) == "engine 2 of 4 plans, workspace 2000 bytes");
        CHECK(chosen(pretended, Math::exact, DType::bfloat16) == "engine 2 of 4 plans, workspace 2000 bytes");
    }
    {
        const Environment first("COVER_VENDOR_MEASURE", "off");
        const Pretended pretended;
        CHECK(chosen(pretended, Math::exact, DType::float32) == "engine 3 of 1 plans, workspace 3000 bytes");
    }
}

TEST_CASE("vendor: a row that has nothing for a shape says why, and is taken by name alone") {
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    const Pretended pretended;
    const auto rows = emulated::forward_rows();
    KernelSelection selection;
    Stream stream = *device_stream(Device::emulated);
    const auto outcome = [&](const ConvParams& p, std::string* sentence) {
        return kind_of([&] { (void)select("conv", rows, p, DType::float32, stream); }, sentence);
    };
    std::string sentence;
    const ConvParams served{1, {2, 1, 4, 4}, 8, 8, 3}, unserved{1, {2, 1, 4, 4}, 2, 8, 3};
    CHECK(outcome(served, &sentence) == static_cast<int>(ErrorKind::device));
    CHECK(contains(sentence, "no row for float32"));
    stream.selection = &selection;
    selection.rows = {{"conv", "vendor_cudnn"}};
    CHECK(outcome(served, &sentence) == 0);
    CHECK(outcome(unserved, &sentence) == static_cast<int>(ErrorKind::device));
    CHECK(contains(sentence,
                   "has no deterministic plan for the forward of 1 x 4x4, 2 -> 8 channels, kernel 3, exact float32"));
    selection.rows = {{"conv", "vendor_cublas"}};
    CHECK(outcome(served, &sentence) == static_cast<int>(ErrorKind::device));
    CHECK(contains(sentence, "cuBLAS serves convolutions of one pixel (1x1), this kernel is 3 wide"));
    const DeviceFacts none;
    CHECK(contains(find_row(rows, "vendor_cudnn", DType::float32)->why_not(served, none), "need a CUDA device"));
}

TEST_CASE("vendor: the program refuses a vendor's row on the CPU, and says where the libraries are") {
    const TemporaryFolder folder;
    write_small_patches(folder.path() + "/patches.h5", 24);
    const Outcome refused = run_program(
        folder,
        "pretrain --data %d/patches.h5 --patch 16 --batch 2 --channels 8,8,8,8,8,8,8,8,8 --steps 1 --out %d/run "
        "--device cpu --kernel conv:vendor_cudnn");
    CHECK(refused.code == static_cast<int>(ErrorKind::configuration));
    CHECK(contains(refused.err, "vendor_cudnn"));
    const auto about = [&](const std::string& environment) {
        const Outcome info = run_program(folder, "info --json", environment);
        CHECK(info.code == 0);
        return nlohmann::json::parse(info.out);
    };
    const std::string found = about("")["vendor_cudnn"];
    if (vendor::plugin().functions)
        CHECK(found == vendor::find(Library::cudnn).where);
    else  // The program looks for it beside itself, this test beside its own file: one sentence with other folders.
        CHECK(contains(found, vendor::plugin().where.substr(0, vendor::plugin().where.find(", looked for in "))));
    if (const std::string why = why_none(); !why.empty()) return skip(why);
    CHECK(contains(about("COVER_VENDOR_PATH=" + folder.path())["vendor_cublas"], "cuBLAS is not there"));
    const nlohmann::json pretended = about("COVER_VENDOR_PATH=" COVER_PRETEND_VENDOR);
    CHECK(contains(pretended["vendor_cudnn"], "cuDNN 9.1.99, " COVER_PRETEND_VENDOR "/libcudnn.so.9"));
    CHECK(contains(pretended["vendor_cublas"], "cuBLAS 13.99.0, "));
}

}  // namespace cover::test
