// data/patches.h: the schema, its variants, and what is refused.
#include <cmath>

#include "data/h5_write.h"
#include "data/patches.h"
#include "tests/data_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;

namespace {

std::vector<std::uint16_t> counting(std::size_t count, unsigned step = 7) {
    std::vector<std::uint16_t> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::uint16_t>(i * step);
    return out;
}

std::vector<float> sample(const PatchFile& file, std::int64_t i) {
    std::vector<float> out(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
    file.read_sample(i, out.data());
    return out;
}

ForeignDataset foreign(const std::vector<hsize_t>& shape, hid_t type, const void* data, const std::string& axes = "") {
    ForeignDataset d;
    d.shape = shape;
    d.file_type = type;
    d.memory_type = H5T_NATIVE_USHORT;
    d.data = data;
    d.axes = axes;
    return d;
}

}  // namespace

TEST_CASE("patches: unsigned integers are divided by their maximum, with or without attributes") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    const std::vector<std::uint16_t> images = counting(2 * 1 * 3 * 4, 2000);
    write_foreign(path, {0, false, {foreign({2, 1, 3, 4}, H5T_STD_U16LE, images.data())}});
    PatchFile file = PatchFile::open({path});
    CHECK(file.sample_count() == 2);
    CHECK(file.spatial_dims() == 2);
    CHECK(file.grid() == Grid{2, 1, 3, 4});
    CHECK(file.channels() == 1);
    CHECK(file.spacing() == std::vector<double>{1, 1});
    CHECK(file.subject(1) == "a.h5:1");
    CHECK(file.preprocessing().empty());
    const std::vector<float> second = sample(file, 1);
    for (std::size_t i = 0; i < 12; ++i) CHECK(second[i] == doctest::Approx(images[12 + i] / 65535.0).epsilon(1e-7));
    CHECK(sample(PatchFile::open({path}, {.stored_units = true}), 1)[3] == images[15]);

    H5Writer writer(path);
    const std::int16_t stored[8] = {-1000, 0, 1000, 5, 6, 7, 8, 9};
    writer.dataset("/images", H5Store::int16, {2, 1, 1, 2, 2}, stored);
    writer.attribute("/images", "axes", std::string("NCDHW"));
    writer.attribute("/images", "spacing", std::vector<double>{2, 1, 0.5});
    writer.attribute("/images", "scale", 0.0005);
    writer.attribute("/images", "offset", 0.5);
    writer.strings("/subject", {"anna", "ben"});
    writer.strings("/source", {"1.png", "2.png"});
    writer.attribute("/", "preprocessing", std::string("{\"size\":[1,2,2]}"));
    writer.commit();
    file = PatchFile::open({path});
    CHECK(file.spatial_dims() == 3);
    CHECK(file.spacing() == std::vector<double>{2, 1, 0.5});
    CHECK(file.subject(0) == "anna");
    CHECK(file.source(1) == "2.png");
    CHECK(file.preprocessing() == "{\"size\":[1,2,2]}");
    const std::vector<float> first = sample(file, 0);
    CHECK(first[0] == 0);
    CHECK(first[1] == 0.5f);
    CHECK(first[2] == 1.0f);
}

TEST_CASE("patches: channels first and channels last give the same sample") {
    const TemporaryFolder folder;
    const std::vector<std::uint16_t> last = counting(2 * 4 * 5 * 3, 11);
    std::vector<std::uint16_t> first(last.size());
    for (std::size_t n = 0; n < 2; ++n)
        for (std::size_t p = 0; p < 20; ++p)
            for (std::size_t c = 0; c < 3; ++c) first[(n * 3 + c) * 20 + p] = last[(n * 20 + p) * 3 + c];
    const std::string nchw = folder.path() + "/nchw.h5", nhwc = folder.path() + "/nhwc.h5",
                      volume = folder.path() + "/ndhwc.h5", deep = folder.path() + "/ndhw.h5";
    write_foreign(nchw, {0, false, {foreign({2, 3, 4, 5}, H5T_STD_U16BE, first.data())}});
    write_foreign(nhwc, {0, false, {foreign({2, 4, 5, 3}, H5T_STD_U16LE, last.data(), "NHWC")}});
    write_foreign(volume, {0, false, {foreign({2, 2, 2, 5, 3}, H5T_STD_U16LE, last.data(), "NDHWC")}});
    write_foreign(deep, {0, false, {foreign({2, 4, 5, 3}, H5T_STD_U16LE, last.data(), "NDHW")}});
    const PatchFile a = PatchFile::open({nchw}), b = PatchFile::open({nhwc}), c = PatchFile::open({volume});
    CHECK(a.channels() == 3);
    CHECK(b.grid() == Grid{2, 1, 4, 5});
    CHECK(c.grid() == Grid{3, 2, 2, 5});
    for (std::int64_t i = 0; i < 2; ++i) {
        CHECK((sample(a, i) == sample(b, i)));
        CHECK((sample(a, i) == sample(c, i)));
    }
    CHECK(sample(a, 1)[4] == doctest::Approx(last[64] / 65535.0));
    const PatchFile d = PatchFile::open({deep});
    CHECK(d.grid() == Grid{3, 4, 5, 3});
    CHECK(d.channels() == 1);
    CHECK((sample(d, 1) == sample(b, 1)));
}

TEST_CASE("patches: several files are one, one data set per sample is a file") {
    const TemporaryFolder folder;
    const std::vector<std::uint16_t> images = counting(5 * 6);
    const std::string rows = folder.path() + "/rows.h5", group = folder.path() + "/group.h5";
    write_foreign(rows, {0, false, {foreign({3, 1, 2, 3}, H5T_STD_U8LE, images.data())}});
    ForeignFile f;
    H5dont_atexit();
    const hid_t id = H5Fcreate(group.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(H5Gcreate2(id, "/images", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    for (int i = 0; i < 2; ++i) {
        ForeignDataset d = foreign({2, 3}, H5T_STD_U8LE, images.data() + 18 + 6 * i);
        d.path = "/images/" + std::to_string(i);
        if (i == 1) d.chunk = {1, 2};
        d.deflate = i == 1;
        add_dataset(id, d);
    }
    H5Fclose(id);
    const PatchFile file = PatchFile::open({rows, group});
    CHECK(file.sample_count() == 5);
    for (std::int64_t i = 0; i < 5; ++i)
        for (std::size_t k = 0; k < 6; ++k)
            CHECK(sample(file, i)[k] ==
                  doctest::Approx(images[static_cast<std::size_t>(6 * i) + k] / 255.0).epsilon(1e-7));
    CHECK(file.where(3).find("group.h5: sample 0") != std::string::npos);
    CHECK(PatchFile::open({rows}).content_hash() != file.content_hash());
    CHECK(file.content_hash() == PatchFile::open({rows, group}).content_hash());

    const std::string other = folder.path() + "/other.h5";
    write_foreign(other, {0, false, {foreign({3, 1, 3, 2}, H5T_STD_U8LE, images.data())}});
    CHECK(data_error([&] { (void)PatchFile::open({rows, other}); }).find("other.h5") != std::string::npos);
}

TEST_CASE("patches: the hash knows every stored bit and what it means") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    std::vector<std::uint16_t> images = counting(12);
    const auto hash = [&](hid_t type, const std::vector<hsize_t>& shape) {
        write_foreign(path, {0, false, {foreign(shape, type, images.data())}});
        return PatchFile::open({path}).content_hash();
    };
    const std::string first = hash(H5T_STD_U16LE, {2, 1, 2, 3});
    CHECK(first.size() == 64);
    CHECK(first == hash(H5T_STD_U16LE, {2, 1, 2, 3}));
    CHECK(first != hash(H5T_STD_U16LE, {2, 1, 3, 2}));
    CHECK(first != hash(H5T_STD_I16LE, {2, 1, 2, 3}));
    images[11] ^= 1;
    CHECK(first != hash(H5T_STD_U16LE, {2, 1, 2, 3}));
}

TEST_CASE("patches: a value that is not finite names file and sample") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    std::vector<float> images(3 * 4, 0.5f);
    images[9] = NAN;
    H5Writer writer(path);
    writer.floats("/images", {3, 1, 2, 2}, images.data());
    writer.commit();
    const PatchFile file = PatchFile::open({path});
    CHECK(sample(file, 1)[0] == 0.5f);
    const std::string sentence = data_error([&] { (void)sample(file, 2); });
    CHECK(sentence.find(path) != std::string::npos);
    CHECK(sentence.find("sample 2") != std::string::npos);
    CHECK(std::isnan(sample(PatchFile::open({path}, {.allow_non_finite = true}), 2)[1]));
}

TEST_CASE("patches: chunks through the samples are refused with the way out, and read in order by prepare") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    const std::vector<std::uint16_t> images = counting(6 * 8 * 8, 3);
    ForeignDataset d = foreign({6, 1, 8, 8}, H5T_STD_U16LE, images.data());
    d.chunk = {4, 1, 4, 8};
    d.deflate = true;
    write_foreign(path, {0, false, {d}});
    CHECK(data_error([&] { (void)PatchFile::open({path}); }).find("cover prepare " + path) != std::string::npos);
    const PatchFile file = PatchFile::open({path}, {.sequential = true, .stored_units = true});
    for (std::int64_t i = 0; i < 6; ++i) {
        const std::vector<float> got = sample(file, i);
        for (std::size_t k = 0; k < 64; ++k) REQUIRE(got[k] == images[static_cast<std::size_t>(i) * 64 + k]);
    }
}

TEST_CASE("patches: what cannot be images is refused with a reason") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    const std::vector<std::uint16_t> images = counting(64);
    const auto refused = [&](const ForeignDataset& d) {
        write_foreign(path, {0, false, {d}});
        return data_error([&] { (void)PatchFile::open({path}); });
    };
    CHECK(refused(foreign({8}, H5T_STD_U8LE, images.data())).find("axes") != std::string::npos);
    CHECK(refused(foreign({2, 2, 2}, H5T_STD_U8LE, images.data(), "NXY")).find("NXY") != std::string::npos);
    CHECK(refused(foreign({2, 2, 2}, H5T_STD_U8LE, images.data(), "HWC")).find("begin with N") != std::string::npos);
    CHECK(refused(foreign({2, 2, 2}, H5T_STD_U8LE, images.data(), "NCHW")).find("axes") != std::string::npos);
    ForeignDataset elsewhere = foreign({2, 1, 2, 2}, H5T_STD_U8LE, images.data());
    elsewhere.path = "/pictures";
    CHECK(refused(elsewhere).find("/images") != std::string::npos);
    CHECK(PatchFile::open({path}, {.sequential = true}).sample_count() == 2);
}
