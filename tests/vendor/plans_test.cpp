// The descriptors that the plug-in hands to cuDNN, before a true cuDNN where one is installed, but with no GPU: it
// finds plans from the properties of a device as well as from the device.
#include "core/shape.h"
#include "kernels/vendor/cudnn.h"
#include "tests/support.h"

namespace cover::test {
namespace {

using namespace vendor;

// What cuDNN 9.19 writes down of a device, filled in for an H100.
constexpr const char* h100 =
    R"({"cudaDeviceId":0,"deviceName":"NVIDIA H100 80GB HBM3","deviceVer":900,"driverVer":13000,"isTccDriver":0,)"
    R"("l2CacheSize":52428800,"maxBlockSize":[1024,1024,64],"maxCtasPerSM":32,"maxGridSize":[2147483647,65535,65535],)"
    R"("maxRegistersPerSM":65536,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
    R"("maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"memClockRateKHz":2619000,"multiProcessorCount":132,)"
    R"("pciDeviceId":0,"regsPerBlock":65536,"reservedSharedMemoryPerBlock":1024,"smClockRateKHz":1980000,)"
    R"("supportCoopLaunch":1,"totalGlobalMem":85000000000,"warpSize":32})";

struct Layer {
    std::int64_t dims, n, side, c_in, c_out, kernel;
};

// The default network's kinds of layer, 384 x 384 batch 24 and 96^3 batch 4, and some of the op tests' odd ones.
constexpr Layer layers[] = {{2, 48, 384, 1, 32, 3},   {2, 48, 384, 96, 32, 3}, {2, 48, 192, 64, 64, 3},
                            {2, 48, 24, 512, 512, 3}, {2, 24, 384, 32, 8, 1},  {2, 24, 24, 512, 32, 1},
                            {3, 8, 96, 1, 32, 3},     {3, 8, 48, 64, 64, 3},   {3, 4, 96, 32, 8, 1},
                            {2, 2, 5, 3, 8, 3},       {3, 1, 3, 24, 15, 3},    {2, 1, 1, 2, 3, 1}};

}  // namespace

TEST_CASE("vendor: layouts are channels last") {
    const Convolution flat{.n = 2, .h = 5, .w = 7, .c_in = 3, .c_out = 8},
        deep{.spatial_dims = 3, .n = 2, .d = 4, .h = 5, .w = 7, .c_in = 3, .c_out = 8};
    CHECK(image_layout(flat, 3).sides == std::vector<std::int64_t>{2, 3, 5, 7});
    CHECK(image_layout(flat, 3).strides == std::vector<std::int64_t>{105, 1, 21, 3});
    CHECK(weight_layout(flat).sides == std::vector<std::int64_t>{8, 3, 3, 3});
    CHECK(weight_layout(flat).strides == std::vector<std::int64_t>{27, 1, 9, 3});
    CHECK(image_layout(deep, 8).sides == std::vector<std::int64_t>{2, 8, 4, 5, 7});
    CHECK(image_layout(deep, 8).strides == std::vector<std::int64_t>{1120, 1, 280, 56, 8});
    CHECK(weight_layout(deep).strides == std::vector<std::int64_t>{81, 1, 27, 9, 3});
}

TEST_CASE("vendor: cuDNN has deterministic plans for every kind of layer on an H100") {
    std::unique_ptr<Cudnn> cudnn;
    try {
        cudnn = std::make_unique<Cudnn>(h100);
    } catch (const Failure& failure) {
        // Not installed, older than 9.8, or one that writes other properties down.
        return skip(failure.what());
    }
    for (const Layer& layer : layers)
        for (const Pass pass : {Pass::forward, Pass::backward_data, Pass::backward_weight})
            for (const auto& [element, tf32] :
                 {std::pair{Element::float32, 0}, std::pair{Element::float32, 1}, std::pair{Element::bfloat16, 0}}) {
                const Convolution key{.pass = static_cast<std::int64_t>(pass),
                                      .spatial_dims = layer.dims,
                                      .kernel = layer.kernel,
                                      .n = layer.n,
                                      .d = layer.dims == 3 ? layer.side : 1,
                                      .h = layer.side,
                                      .w = layer.side,
                                      .c_in = layer.c_in,
                                      .c_out = layer.c_out,
                                      .element = static_cast<std::int64_t>(element),
                                      .tf32 = tf32};
                std::string refusal;
                try {
                    Element weight{};
                    CHECK(cudnn->workspace(key, weight) >= 0);
                    CHECK((weight == element || pass == Pass::backward_weight));
                } catch (const Failure& failure) {
                    refusal = failure.what();
                }
                CHECK_MESSAGE(refusal.empty(), refusal);
            }
}

}  // namespace cover::test
