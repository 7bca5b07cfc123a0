// The views of a batch on every device beside the CPU's: displacement and mask bit for bit, images to rounding.
#include <cmath>
#include <cstring>

#include "core/device_memory.h"
#include "core/upload.h"
#include "cover/appearance.h"
#include "cover/views.h"
#include "kernels/devices.h"
#include "tests/op_rows.h"
#include "tests/support.h"

namespace cover {
namespace {

using test::devices;

std::vector<SampleKey> keys_of(std::int64_t count) {
    std::vector<SampleKey> keys;
    for (std::int64_t i = 0; i < count; ++i) keys.push_back({2, static_cast<std::uint32_t>(10 + 3 * i)});
    return keys;
}

TrainConfig config_of(int dims, int channels, std::int64_t side, std::int64_t patch) {
    TrainConfig config;
    config.dims = dims;
    config.in_channels = channels;
    const std::int64_t depth = dims == 3 ? side : 1;
    config.patch = {dims == 3 ? patch : 1, patch, patch};
    complete_config(config, {dims, channels, {depth, side, side}, 8});
    config.blur_sigma_max = 1.2;
    config.elastic_sigma_min = 2;
    config.elastic_sigma_max = 4;
    config.elastic_alpha_max = 60;
    return config;
}

bool same(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && std::memcmp(a.view().data, b.view().data, a.bytes()) == 0;
}

// Largest difference of the images.
double compare(const TrainConfig& config, const Tensor& images, const std::string& what) {
    const auto keys = keys_of(images.side(0));
    const Views cpu = make_views(images, keys, config, test::cpu_stream());
    double most = 0;
    for (const Device device : devices()) {
        Stream* stream = test::device_stream(device);
        const Views other = make_views(images, keys, config, *stream);
        const std::string where = text(name_of(device), ", ", what);
        for (const Tensor* tensor : {&other.images, &other.field, &other.mask})
            CHECK_MESSAGE(tensor->device() == device, where);
        CHECK_MESSAGE(same(other.field.to(Device::cpu), cpu.field), where);
        CHECK_MESSAGE(same(other.mask.to(Device::cpu), cpu.mask), where);
        CHECK_MESSAGE(other.valid == cpu.valid, where);
        CHECK_MESSAGE(other.redrawn == cpu.redrawn, where);
        CHECK_MESSAGE(other.empty == cpu.empty, where);
        const Tensor here = other.images.to(Device::cpu);
        for (std::int64_t i = 0; i < here.count(); ++i) {
            const double difference =
                std::abs(double{here.data<float>()[i]} - double{std::as_const(cpu.images).data<float>()[i]});
            // Not so for a NaN.
            REQUIRE_MESSAGE(difference <= 2e-6, where, ": pixel ", i, " differs by ", difference);
            most = std::max(most, difference);
        }
    }
    return most;
}

}  // namespace

TEST_CASE("device views: field and mask are the CPU's bits, images the CPU's to rounding") {
    double most = 0;
    std::int64_t redrawn = 0;
    for (const int dims : {2, 3})
        for (const WarpConvention convention : {WarpConvention::exact, WarpConvention::reference})
            for (const bool elastic : {false, true})
                for (const LimitReach limit : {LimitReach::off, LimitReach::redraw, LimitReach::scale})
                    for (const bool shared : {false, true}) {
                        const int channels = shared ? 3 : 1;
                        const std::int64_t side = dims == 2 ? 51 : 18, patch = dims == 2 ? 32 : 16;
                        TrainConfig config = config_of(dims, channels, side, patch);
                        config.warp = convention;
                        config.elastic = elastic;
                        config.limit_reach = limit;
                        config.batch_shared_augmentation = shared;
                        // A reach of 3 or 7 pixels, which many fields exceed.
                        config.levels = dims == 2 ? 3 : 2;
                        config.radius = 1;
                        const Tensor images = test::random_tensor({3, dims == 3 ? side : 1, side, side, channels},
                                                                  DType::float32, 3, 0, 1);
                        const std::string what = text(dims, "D, ", name_of(convention), elastic ? ", elastic" : "",
                                                      ", limit ", name_of(limit), shared ? ", shared" : "");
                        most = std::max(most, compare(config, images, what));
                        redrawn += make_views(images, keys_of(3), config, test::cpu_stream()).redrawn;
                    }
    CHECK(redrawn > 0);
    MESSAGE("largest difference of a pixel: ", most);
}

TEST_CASE("device views: an empty mask is drawn again on every device, an always-empty one is reported") {
    TrainConfig config = config_of(2, 1, 48, 32);
    config.rotation = config.shear = config.scale = 0;
    config.degree = 1;
    for (const double translation : {1.0, 1e6}) {
        config.translation = translation;
        const Tensor images = test::random_tensor({6, 1, 48, 48, 1}, DType::float32, 3, 0, 1);
        const Views cpu = make_views(images, keys_of(6), config, test::cpu_stream());
        CHECK(cpu.redrawn > 0);
        CHECK(cpu.empty == (translation > 1));
        compare(config, images, text("translations up to ", translation));
    }
}

TEST_CASE("device views: plain crops for evaluation are the image's own pixels") {
    const TrainConfig config = config_of(2, 1, 40, 32);
    const Tensor images = test::random_tensor({2, 1, 40, 40, 1}, DType::float32, 3, 0, 1);
    const ViewOptions plain{.appearance = false, .elastic_allowed = false};
    const Views cpu = make_views(images, keys_of(2), config, test::cpu_stream(), plain);
    const Shape half{2, 1, 32, 32, 1};
    for (const Device device : devices()) {
        Stream* stream = test::device_stream(device);
        // From the host's memory and from the device's.
        for (const Tensor& source : {images, images.to(device)}) {
            const Views other = make_views(source, keys_of(2), config, *stream, plain);
            CHECK(same(other.images.slice(0, half).to(Device::cpu), cpu.images.slice(0, half)));
        }
    }
}

TEST_CASE("device views: two uploads are under way beside a copy, each comes whole once it is awaited") {
    const Shape shape{3, 1, 50, 40, 1};
    for (const Device device : devices()) {
        UploadRing ring(device, shape);
        for (std::uint32_t round = 0; round < 3; ++round) {
            const Tensor one = test::random_tensor(shape, DType::float32, 2 * round),
                         two = test::random_tensor(shape, DType::float32, 2 * round + 1);
            const Tensor first = ring.begin(one), second = ring.begin(two);
            CHECK(first.view().data != second.view().data);
            ring.await(second);
            CHECK(same(second.to(Device::cpu), two));
            ring.await(first);
            CHECK(same(first.to(Device::cpu), one));
        }
        CHECK_THROWS_AS((void)ring.begin(Tensor::zeros({3, 1, 50, 41, 1})), Error);
        CHECK_THROWS_AS(ring.await(Tensor::zeros(shape, DType::float32, device)), Error);
    }
}

TEST_CASE("device views: on the emulated device an upload that nobody awaited is poison") {
    const Shape shape{2, 1, 8, 8, 1};
    REQUIRE(test::device_stream(Device::emulated));
    UploadRing ring(Device::emulated, shape);
    const Tensor uploaded = ring.begin(Tensor::zeros(shape));
    CHECK_FALSE(uploaded.all_finite());
    ring.await(uploaded);
    CHECK(uploaded.all_finite());
}

}  // namespace cover
