// data/h5.h and data/h5_write.h: files of this program and of strangers, whole and damaged.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <thread>

#include "core/check.h"
#include "data/h5.h"
#include "data/h5_filter.h"
#include "data/h5_write.h"
#include "tests/data_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;

namespace {

std::vector<float> ramp(std::size_t count) {
    std::vector<float> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = 0.25f * static_cast<float>(i % 777) - 3;
    return out;
}

void write_sample_file(const std::string& path) {
    H5Writer writer(path);
    const std::vector<float> images = ramp(3 * 4 * 5);
    writer.floats("/a/deep/images", {3, 4, 5}, images.data());
    const double exact[2] = {1.0 / 3, -2e300};
    writer.doubles("/exact", {2}, exact);
    writer.strings("/names", {"x", "", "a longer one"});
    writer.attribute("/", "cover_schema", std::int64_t{1});
    writer.attribute("/a", "text", std::string("words"));
    writer.attribute("/a/deep/images", "spacing", std::vector<double>{1.5, 2, NAN});
    writer.attribute("/exact", "scalar", 0.1);
    writer.create("/rows", H5Store::uint8, {4, 3});
    const unsigned char rows[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255};
    writer.write_rows("/rows", 2, 2, rows + 6);
    writer.write_rows("/rows", 0, 2, rows);
    writer.commit();
}

}  // namespace

TEST_CASE("hdf5: what the writer writes is read back") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    write_sample_file(path);
    const H5File file = H5File::open(path);
    CHECK(file.read_floats("/a/deep/images") == ramp(60));
    CHECK(file.read_doubles("/exact") == std::vector<double>{1.0 / 3, -2e300});
    CHECK(file.read_strings(file.dataset("/names")) == std::vector<std::string>{"x", "", "a longer one"});
    CHECK(file.number("/", "cover_schema") == 1);
    CHECK(file.string("/a", "text") == "words");
    CHECK(file.number("/exact", "scalar") == 0.1);
    const std::vector<double> spacing = file.numbers("/a/deep/images", "spacing");
    REQUIRE(spacing.size() == 3);
    CHECK(spacing[0] == 1.5);
    CHECK(std::isnan(spacing[2]));
    CHECK(file.read_doubles("/rows") == std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255});
    CHECK(file.has_group("/a/deep"));
    CHECK_FALSE(file.has_group("/b"));
    CHECK(file.find("/b") == nullptr);
    CHECK(data_error([&] { (void)file.dataset("/b"); }).find("no dataset /b") != std::string::npos);
    CHECK(data_error([&] { (void)file.number("/", "nothing"); }).find("nothing") != std::string::npos);
}

TEST_CASE("hdf5: the same contents are the same bytes, at another time as well") {
    const TemporaryFolder folder;
    write_sample_file(folder.path() + "/a.h5");
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    write_sample_file(folder.path() + "/b.h5");
    const std::string bytes = bytes_of(folder.path() + "/a.h5");
    CHECK(bytes.size() > 500);
    CHECK((bytes == bytes_of(folder.path() + "/b.h5")));
}

TEST_CASE("hdf5: without a commit there is no file, and an older one stays") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    write_bytes(path, "older");
    {
        H5Writer writer(path);
        const double x = 1;
        writer.doubles("/x", {1}, &x);
    }
    CHECK(bytes_of(path) == "older");
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("hdf5: every stored type, little and big endian") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/types.h5";
    const double values[4] = {0, 1, 100, 77};
    const double negative[4] = {0, -1, 100, -77};
    ForeignFile file;
    const hid_t half = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    struct Kind {
        const char* name;
        hid_t type;
        bool is_signed;
    };
    const std::vector<Kind> kinds = {
        {"uint8", H5T_STD_U8LE, false},   {"uint16", H5T_STD_U16LE, false},  {"uint16", H5T_STD_U16BE, false},
        {"uint32", H5T_STD_U32BE, false}, {"uint64", H5T_STD_U64LE, false},  {"int8", H5T_STD_I8BE, true},
        {"int16", H5T_STD_I16BE, true},   {"int32", H5T_STD_I32LE, true},    {"int64", H5T_STD_I64BE, true},
        {"float16", half, true},          {"float32", H5T_IEEE_F32BE, true}, {"float64", H5T_IEEE_F64BE, true},
        {"float64", H5T_IEEE_F64LE, true}};
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        ForeignDataset d;
        d.path = "/" + std::to_string(i);
        d.shape = {2, 2};
        d.file_type = kinds[i].type;
        d.memory_type = H5T_NATIVE_DOUBLE;
        d.data = kinds[i].is_signed ? negative : values;
        file.datasets.push_back(d);
    }
    write_foreign(path, file);
    const H5File read = H5File::open(path);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        CAPTURE(kinds[i].name);
        const H5Dataset& d = read.dataset("/" + std::to_string(i));
        CHECK(d.type.name() == kinds[i].name);
        const double* expected = kinds[i].is_signed ? negative : values;
        CHECK(read.read_doubles(d) == std::vector<double>(expected, expected + 4));
        std::vector<unsigned char> row(static_cast<std::size_t>(2 * d.type.size));
        read.read_row(d, 1, row.data());
        float floats[2];
        to_floats(d.type, row.data(), 2, 2.0, 0.5, floats);
        CHECK(floats[0] == static_cast<float>(expected[2] * 2 + 0.5));
        CHECK(floats[1] == static_cast<float>(expected[3] * 2 + 0.5));
    }
    H5Tclose(half);
}

TEST_CASE("hdf5: half precision, all special values") {
    const H5Type half{H5Kind::floating, 2, true, false};
    const unsigned char bytes[14] = {0x00, 0x3c, 0x01, 0x00, 0xff, 0x7b, 0x00,
                                     0x7c, 0x00, 0xfc, 0x00, 0x80, 0x01, 0x7c};
    double out[7];
    to_doubles(half, bytes, 7, out);
    CHECK(out[0] == 1.0);
    CHECK(out[1] == 0x1p-24);
    CHECK(out[2] == 65504.0);
    CHECK(out[3] == INFINITY);
    CHECK(out[4] == -INFINITY);
    CHECK((out[5] == 0.0 && std::signbit(out[5])));
    CHECK(std::isnan(out[6]));
}

TEST_CASE("hdf5: chunks, filters, user block, both ages of the format") {
    const TemporaryFolder folder;
    const std::vector<float> images = ramp(5 * 7 * 9);
    int number = 0;
    for (const hsize_t user_block : {0, 512})
        for (const bool latest : {false, true})
            for (const std::vector<hsize_t>& chunk :
                 std::vector<std::vector<hsize_t>>{{}, {1, 7, 9}, {2, 3, 4}, {5, 7, 9}, {1, 1, 9}})
                for (int filters = 0; filters < 8; ++filters) {
                    if (chunk.empty() && filters) continue;
                    ForeignDataset d;
                    d.shape = {5, 7, 9};
                    d.file_type = H5T_IEEE_F32LE;
                    d.memory_type = H5T_NATIVE_FLOAT;
                    d.data = images.data();
                    d.chunk = chunk;
                    d.shuffle = filters & 1;
                    d.deflate = filters & 2;
                    d.fletcher32 = filters & 4;
                    if (filters % 3 != 1 && user_block && latest && chunk.size() == 3 && chunk[0] == 1) continue;
                    const std::string path = folder.path() + "/" + std::to_string(number++) + ".h5";
                    write_foreign(path, {user_block, latest, {d}});
                    const H5File file = H5File::open(path);
                    CAPTURE(user_block);
                    CAPTURE(latest);
                    CAPTURE(filters);
                    CHECK((file.read_floats("/images") == images));
                    const H5Dataset& found = file.dataset("/images");
                    CHECK(found.row_is_one_read() == (chunk.empty() || (chunk[0] == 1 && chunk[1] == 7)));
                    if (filters != 0 && filters != 7) continue;
                    H5Stream stream(file, found);
                    std::vector<float> row(63);
                    for (std::size_t i = 0; i < 5; ++i) {
                        const std::vector<float> expected(images.begin() + static_cast<std::ptrdiff_t>(63 * i),
                                                          images.begin() + static_cast<std::ptrdiff_t>(63 * i + 63));
                        stream.next(reinterpret_cast<unsigned char*>(row.data()));
                        CHECK((row == expected));
                        if (!found.row_is_one_read()) continue;
                        file.read_row(found, static_cast<std::int64_t>(i),
                                      reinterpret_cast<unsigned char*>(row.data()));
                        CHECK((row == expected));
                    }
                }
}

TEST_CASE("hdf5: a flipped byte under fletcher32 is found") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    const std::vector<float> images = ramp(4 * 100);
    ForeignDataset d;
    d.shape = {4, 100};
    d.file_type = H5T_IEEE_F32LE;
    d.memory_type = H5T_NATIVE_FLOAT;
    d.data = images.data();
    d.chunk = {1, 100};
    d.fletcher32 = true;
    write_foreign(path, {0, false, {d}});
    H5File file = H5File::open(path);
    const std::int64_t offset = file.dataset("/images").chunks[2].offset;
    std::string bytes = bytes_of(path);
    bytes[static_cast<std::size_t>(offset) + 17] ^= 4;
    write_bytes(path, bytes);
    file = H5File::open(path);
    std::vector<float> row(100);
    file.read_row(file.dataset("/images"), 1, reinterpret_cast<unsigned char*>(row.data()));
    const std::string sentence =
        data_error([&] { file.read_row(file.dataset("/images"), 2, reinterpret_cast<unsigned char*>(row.data())); });
    CHECK(sentence.find("checksum") != std::string::npos);
    CHECK(sentence.find(path) != std::string::npos);
}

TEST_CASE("hdf5: a chunk that was never written is an error, not zeros") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    ForeignDataset d;
    d.shape = {3, 8};
    d.file_type = H5T_STD_U8LE;
    d.memory_type = H5T_NATIVE_UCHAR;
    d.chunk = {1, 8};
    ForeignDataset plain = d;
    plain.path = "/plain";
    plain.chunk.clear();
    write_foreign(path, {0, false, {d, plain}});
    const H5File file = H5File::open(path);
    unsigned char row[8];
    CHECK(data_error([&] { file.read_row(file.dataset("/images"), 1, row); }).find("never written") !=
          std::string::npos);
    CHECK(data_error([&] { (void)file.read_doubles("/images"); }).find("never written") != std::string::npos);
    CHECK(data_error([&] { (void)file.read_doubles("/plain"); }).find("never written") != std::string::npos);
    H5Stream stream(file, file.dataset("/images"));
    CHECK(data_error([&] { stream.next(row); }).find("never written") != std::string::npos);
}

TEST_CASE("hdf5: missing, empty, garbage and truncated files are sentences") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    const auto open = [&] { (void)H5File::open(path); };
    CHECK(data_error(open).find(path) != std::string::npos);
    write_bytes(path, "");
    CHECK(data_error(open).find("empty") != std::string::npos);
    write_bytes(path, std::string(5000, 'x'));
    CHECK(data_error(open).find("not an HDF5 file") != std::string::npos);
    CHECK(data_error([&] { (void)H5File::open(folder.path()); }).find("not a file") != std::string::npos);
    write_sample_file(path);
    const std::string whole = bytes_of(path);
    for (std::size_t size : {8u, 100u, 600u, 1500u}) {
        write_bytes(path, whole.substr(0, size));
        CHECK_FALSE(data_error(open).empty());
    }
    write_bytes(path, whole.substr(0, whole.size() - 1));
    CHECK_FALSE(data_error([&] { (void)H5File::open(path).read_doubles("/rows"); }).empty());
}

TEST_CASE("hdf5: flipped bits never do more than throw") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    write_sample_file(path);
    const std::string whole = bytes_of(path);
    RandomStream random({7, 0, 0, Purpose::test, 0});
    int thrown = 0;
    for (int round = 0; round < 60; ++round) {
        std::string bytes = whole;
        for (int flip = 0; flip < 6; ++flip)
            bytes[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(bytes.size())))] ^=
                static_cast<char>(1 << random.below(8));
        write_bytes(path, bytes);
        try {
            const H5File file = H5File::open(path);
            for (const auto& [name, d] : file.datasets())
                if (d.type.numeric()) (void)file.read_doubles(d);
        } catch (const Error& error) {
            ++thrown;
            CHECK(error.kind() == ErrorKind::data);
        }
    }
    CHECK(thrown > 0);
}

TEST_CASE("hdf5: links that run in circles end, links out of the file are refused") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5", secret = folder.path() + "/secret.h5";
    write_sample_file(secret);
    const float values[2] = {1, 2};
    ForeignDataset d;
    d.path = "/group/data";
    d.shape = {2};
    d.file_type = H5T_IEEE_F32LE;
    d.memory_type = H5T_NATIVE_FLOAT;
    d.data = values;
    H5dont_atexit();
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    REQUIRE(file >= 0);
    H5Gclose(H5Gcreate2(file, "/group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    add_dataset(file, d);
    REQUIRE(H5Lcreate_hard(file, "/group", file, "/group/again", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    REQUIRE(H5Lcreate_hard(file, "/", file, "/group/root", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    REQUIRE(H5Lcreate_soft("/group/data", file, "/soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    REQUIRE(H5Lcreate_external(secret.c_str(), "/exact", file, "/images", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(creation, secret.c_str(), 0, 8);
    const hsize_t two = 2;
    const hid_t space = H5Screate_simple(1, &two, nullptr);
    H5Dclose(H5Dcreate2(file, "/outside", H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    const hid_t virtual_creation = H5Pcreate(H5P_DATASET_CREATE);
    REQUIRE(H5Pset_virtual(virtual_creation, space, secret.c_str(), "/exact", space) >= 0);
    H5Dclose(H5Dcreate2(file, "/virtual", H5T_IEEE_F64LE, space, H5P_DEFAULT, virtual_creation, H5P_DEFAULT));
    const hid_t filtered = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(filtered, 1, &two);
    H5Pset_scaleoffset(filtered, H5Z_SO_INT, 0);
    H5Dclose(H5Dcreate2(file, "/filtered", H5T_STD_I32LE, space, H5P_DEFAULT, filtered, H5P_DEFAULT));
    REQUIRE(H5Fclose(file) >= 0);
    for (const hid_t id : {creation, virtual_creation, filtered}) H5Pclose(id);
    H5Sclose(space);

    const H5File read = H5File::open(path);
    CHECK(read.read_doubles("/group/data") == std::vector<double>{1, 2});
    CHECK(read.groups().size() == 2);
    CHECK(data_error([&] { (void)read.dataset("/images"); }).find("link into another file") != std::string::npos);
    CHECK(data_error([&] { (void)read.dataset("/soft"); }).find("soft link") != std::string::npos);
    CHECK(data_error([&] { (void)read.dataset("/outside"); }).find("another file") != std::string::npos);
    CHECK(data_error([&] { (void)read.dataset("/virtual"); }).find("virtual") != std::string::npos);
    CHECK(data_error([&] { (void)read.dataset("/filtered"); }).find("filter") != std::string::npos);
}

TEST_CASE("hdf5: strings of variable length, booleans and compact data") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    H5dont_atexit();
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, H5T_VARIABLE);
    const hsize_t three = 3;
    const hid_t space = H5Screate_simple(1, &three, nullptr);
    const char* names[3] = {"one", "", "three"};
    hid_t dataset = H5Dcreate2(file, "/names", text, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    REQUIRE(H5Dwrite(dataset, text, H5S_ALL, H5S_ALL, H5P_DEFAULT, names) >= 0);
    const hid_t boolean = H5Tenum_create(H5T_NATIVE_INT8);
    std::int8_t value = 0;
    H5Tenum_insert(boolean, "FALSE", &value);
    value = 1;
    H5Tenum_insert(boolean, "TRUE", &value);
    const hid_t scalar = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(dataset, "flag", boolean, scalar, H5P_DEFAULT, H5P_DEFAULT);
    REQUIRE(H5Awrite(attribute, boolean, &value) >= 0);
    H5Aclose(attribute);
    H5Dclose(dataset);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(creation, H5D_COMPACT);
    const std::int16_t numbers[3] = {-5, 0, 500};
    dataset = H5Dcreate2(file, "/small", H5T_STD_I16BE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    REQUIRE(H5Dwrite(dataset, H5T_NATIVE_SHORT, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers) >= 0);
    H5Dclose(dataset);
    REQUIRE(H5Fclose(file) >= 0);
    for (const hid_t id : {text, boolean}) H5Tclose(id);
    for (const hid_t id : {space, scalar}) H5Sclose(id);
    H5Pclose(creation);

    const H5File read = H5File::open(path);
    CHECK(read.read_strings(read.dataset("/names")) == std::vector<std::string>{"one", "", "three"});
    CHECK(read.number("/names", "flag") == 1);
    CHECK(read.read_doubles("/small") == std::vector<double>{-5, 0, 500});
}

TEST_CASE("hdf5: the fletcher32 of a known text") {
    // "abcde" as big-endian words with a zero behind: 0x6162, 0x6364, 0x6500.
    const unsigned char text[5] = {'a', 'b', 'c', 'd', 'e'};
    const std::uint64_t first = (0x6162 + 0x6364 + 0x6500) % 65535;
    const std::uint64_t second = (3 * 0x6162 + 2 * 0x6364 + 0x6500) % 65535;
    CHECK(fletcher32(text, 5) == (second << 16 | first));
}
