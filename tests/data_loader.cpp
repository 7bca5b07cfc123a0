// data/loader.h: order and contents do not depend on threads, ring or where a run starts.
#include <algorithm>
#include <cmath>
#include <set>

#include "data/h5_write.h"
#include "data/loader.h"
#include "tests/data_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;

namespace {

// Sample i is filled with i + pixel / 100.
std::string numbered_file(const std::string& folder, std::int64_t count, std::int64_t bad = -1) {
    const std::string path = folder + "/numbered.h5";
    std::vector<float> images(static_cast<std::size_t>(count * 6));
    for (std::size_t i = 0; i < images.size(); ++i)
        images[i] = static_cast<float>(i / 6) + static_cast<float>(i % 6) / 100;
    if (bad >= 0) images[static_cast<std::size_t>(bad * 6 + 2)] = INFINITY;
    H5Writer writer(path);
    writer.floats("/images", {count, 1, 2, 3}, images.data());
    writer.commit();
    return path;
}

void check_contents(const Batch& batch) {
    REQUIRE(batch.images.shape() == Shape{static_cast<std::int64_t>(batch.samples.size()), 1, 2, 3, 1});
    for (std::size_t b = 0; b < batch.samples.size(); ++b)
        for (std::size_t p = 0; p < 6; ++p)
            CHECK(batch.images.data<float>()[b * 6 + p] ==
                  static_cast<float>(batch.samples[b].index) + static_cast<float>(p) / 100);
}

}  // namespace

TEST_CASE("loader: an epoch holds every sample once, and batches run on over its end") {
    const TemporaryFolder folder;
    const PatchFile patches = PatchFile::open({numbered_file(folder.path(), 7)});
    LoaderOptions options;
    options.batch = 3;
    options.seed = 5;
    Loader loader(patches, options);
    std::vector<SampleId> all;
    for (int step = 0; step < 14; ++step) {
        const Batch batch = loader.next();
        CHECK(batch.step == step);
        check_contents(batch);
        all.insert(all.end(), batch.samples.begin(), batch.samples.end());
    }
    std::set<std::vector<std::int64_t>> orders;
    for (std::size_t epoch = 0; epoch < 6; ++epoch) {
        std::vector<std::int64_t> order;
        for (std::size_t i = 0; i < 7; ++i) {
            CHECK(all[7 * epoch + i].epoch == epoch);
            order.push_back(all[7 * epoch + i].index);
        }
        orders.insert(order);
        std::sort(order.begin(), order.end());
        CHECK(order == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6});
    }
    CHECK(orders.size() > 4);  // epochs differ in order
}

TEST_CASE("loader: the same batches for every number of threads, ring and start") {
    const TemporaryFolder folder;
    const PatchFile patches = PatchFile::open({numbered_file(folder.path(), 11)});
    const auto run = [&](int threads, int ring, std::int64_t start, std::uint64_t seed) {
        LoaderOptions options;
        options.batch = 4;
        options.seed = seed;
        options.threads = threads;
        options.ring = ring;
        options.start_step = start;
        Loader loader(patches, options);
        std::vector<SampleId> ids;
        std::vector<float> values;
        for (std::int64_t step = start; step < 30; ++step) {
            const Batch batch = loader.next();
            CHECK(batch.step == step);
            CHECK(batch.waited >= 0);
            ids.insert(ids.end(), batch.samples.begin(), batch.samples.end());
            const float* p = batch.images.data<float>();
            values.insert(values.end(), p, p + batch.images.count());
        }
        return std::make_pair(ids, values);
    };
    const auto expected = run(0, 1, 0, 9);
    for (const int threads : {1, 2, 4})
        for (const int ring : {1, 3}) CHECK((run(threads, ring, 0, 9) == expected));
    auto late = run(4, 3, 13, 9);
    CHECK(std::equal(late.first.begin(), late.first.end(), expected.first.begin() + 13 * 4));
    CHECK(std::equal(late.second.begin(), late.second.end(), expected.second.begin() + 13 * 4 * 6));
    CHECK((run(0, 1, 0, 10).first != expected.first));
}

TEST_CASE("loader: a subset is all that is drawn from") {
    const TemporaryFolder folder;
    const PatchFile patches = PatchFile::open({numbered_file(folder.path(), 9)});
    LoaderOptions options;
    options.batch = 2;
    options.indices = {8, 1, 5};
    Loader loader(patches, options);
    std::multiset<std::int64_t> seen;
    for (int step = 0; step < 6; ++step)
        for (const SampleId& id : loader.next().samples) seen.insert(id.index);
    for (const std::int64_t i : options.indices) CHECK(seen.count(i) == 4);
    options.indices = {9};
    CHECK_THROWS_AS(Loader(patches, options), Error);
}

TEST_CASE("loader: a bad sample is reported at its step, not before") {
    const TemporaryFolder folder;
    const PatchFile patches = PatchFile::open({numbered_file(folder.path(), 8, 3)});
    for (const int threads : {0, 3}) {
        LoaderOptions options;
        options.batch = 2;
        options.threads = threads;
        Loader loader(patches, options);
        const std::vector<std::int64_t> order = SampleOrder({0, 1, 2, 3, 4, 5, 6, 7}, 0).epoch(0);
        const auto bad = std::find(order.begin(), order.end(), 3) - order.begin();
        for (std::ptrdiff_t step = 0; step < bad / 2; ++step) check_contents(loader.next());
        const std::string sentence = data_error([&] { (void)loader.next(); });
        CHECK(sentence.find("sample 3") != std::string::npos);
    }
}

TEST_CASE("loader: the order of a seed is part of the file format") {
    // A resumed run must find the order that it left: these numbers never change.
    CHECK(SampleOrder({0, 1, 2, 3, 4, 5, 6, 7}, 42).epoch(3) == std::vector<std::int64_t>{3, 7, 1, 0, 5, 2, 4, 6});
}
