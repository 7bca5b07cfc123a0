// cover bench ops on a device: the emulated one stands for all.
#include <nlohmann/json.hpp>
#include <set>

#include "core/parallel.h"
#include "kernels/catalogue.h"
#include "kernels/device_timing.h"
#include "kernels/devices.h"
#include "tests/run_program.h"
#include "tests/support.h"

namespace cover {
namespace {

nlohmann::json bench(const std::string& arguments) {
    const test::TemporaryFolder folder;
    const auto outcome = test::run_program(folder,
                                           "bench ops --device emulated --patch 16 --batch 1 --channels "
                                           "8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --seconds 0.0001 --json " +
                                               arguments);
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    return nlohmann::json::parse(outcome.out);
}

TEST_CASE("bench: every row of the emulated device is timed, against roofs of the same run") {
    const auto result = bench("");
    for (const char* roof : {"copy_gigabytes_per_second", "fp32_gflops", "tf32_gflops", "bf16_gflops"})
        CHECK(result["roofs"][roof].get<double>() > 0);
    std::set<std::string> timed, twice;
    for (const auto& row : result["rows"]) {
        const std::string name = text(row["op"].get<std::string>(), ":", row["row"].get<std::string>(), ":",
                                      row["precision"].get<std::string>());
        REQUIRE_MESSAGE(!row.contains("error"), name, ": ", row.value("error", ""));
        CHECK(row["seconds"].get<double>() > 0);
        CHECK(row["percent_of_roof"].get<double>() > 0);
        CHECK_MESSAGE(twice.insert(text(name, ":", row["shape"].get<std::string>())).second, name, " twice");
        timed.insert(name);
    }
    std::size_t rows = 0;
    for (const auto& op : kernel_catalogue())
        for (const auto& row : op.rows) {
            if (row.device != Device::emulated) continue;
            if (std::string(row.name) == "cuda_6_wgmma") continue;  // needs a Hopper; the emulated device is an A100
            const std::string precision = row.dtype == DType::bfloat16 ? "bf16"
                                          : row.math == Math::tf32     ? "tf32"
                                                                       : "fp32";
            CHECK_MESSAGE(timed.count(text(op.op, ":", row.name, ":", precision)) == 1, op.op, ":", row.name, " (",
                          precision, ") was not timed");
            ++rows;
        }
    CHECK(timed.size() == rows);
}

TEST_CASE("bench: one precision, one op, one row; a limit leaves the rest out and says so") {
    const auto rounded = bench("--precision tf32 --op conv");
    for (const auto& row : rounded["rows"]) {
        CHECK(row["precision"] == "tf32");
        CHECK(row["op"].get<std::string>().rfind("conv", 0) == 0);
    }
    const auto naive = bench("--op conv --row cuda_1_naive");
    CHECK(!naive["rows"].empty());
    for (const auto& row : naive["rows"]) CHECK(row["row"] == "cuda_1_naive");
    const auto none = bench("--limit 1e-9 --op add,scale");
    CHECK(none["rows"].empty());
    CHECK(none["left_out"].get<int>() >= 2);
}

TEST_CASE("bench: the clock of a device tells earlier from later") {
    ThreadPool pool(1);
    open_stream(Device::emulated, pool);
    DeviceClock clock(Device::emulated);
    for (const std::size_t slot : {0, 3, 1}) clock.mark(slot);
    CHECK(clock.seconds_between(0, 3) >= 0);
    CHECK(clock.seconds_between(0, 1) >= clock.seconds_between(0, 3));
    CHECK_THROWS_AS(clock.seconds_between(0, 1000), Error);
    CHECK_THROWS_AS(DeviceClock(Device::cpu).mark(0), Error);
}

}  // namespace
}  // namespace cover
