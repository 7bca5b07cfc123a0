// data/nifti.h and data/geometry.h: files of every type, byte order, version and orientation are made here, byte by
// byte, and read back; headers that lie are refused.
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/file.h"
#include "data/nifti.h"
#include "tests/data_support.h"
#include "tests/nifti_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;

namespace {

std::vector<float> read_one(const std::string& bytes) {
    NiftiReader reader = NiftiReader::from_bytes(bytes, "test.nii");
    return reader.next();
}

std::string sentence(const std::string& bytes) {
    return data_error([&] {
        NiftiReader reader = NiftiReader::from_bytes(bytes, "test.nii");
        for (std::int64_t v = 0; v < reader.header().volumes; ++v) reader.next();
    });
}

}  // namespace

TEST_CASE("nifti: every type, both versions, both byte orders, compressed and not, with slope and intercept") {
    for (const int version : {1, 2})
        for (const bool big_endian : {false, true})
            for (const NiftiType type :
                 {NiftiType::uint8, NiftiType::int8, NiftiType::uint16, NiftiType::int16, NiftiType::uint32,
                  NiftiType::int32, NiftiType::uint64, NiftiType::int64, NiftiType::float32, NiftiType::float64}) {
                CAPTURE(name_of(type));
                CAPTURE(version);
                CAPTURE(big_endian);
                MadeNifti made;
                made.version = version;
                made.big_endian = big_endian;
                made.type = type;
                made.dim = {3, 5, 3, 2};
                const bool is_signed = type == NiftiType::int8 || type == NiftiType::int16 ||
                                       type == NiftiType::int32 || type == NiftiType::int64 ||
                                       type == NiftiType::float32 || type == NiftiType::float64;
                for (int i = 0; i < 30; ++i) made.values.push_back(is_signed ? 4 * i - 60 : 8 * i);
                for (const double slope : {0.0, 0.5}) {
                    made.slope = slope;
                    made.intercept = 3;
                    const std::string bytes = nifti_bytes(made);
                    for (const std::string& file : {bytes, gzipped(bytes)}) {
                        NiftiReader reader = NiftiReader::from_bytes(file, "test.nii");
                        CHECK(reader.header().type == type);
                        CHECK(reader.header().version == version);
                        CHECK(reader.header().big_endian == big_endian);
                        CHECK(reader.header().shape == std::array<std::int64_t, 3>{5, 3, 2});
                        const std::vector<float> got = reader.next();
                        REQUIRE(got.size() == 30);
                        for (std::size_t i = 0; i < 30; ++i)
                            CHECK(got[i] == (slope == 0 ? made.values[i] : 0.5 * made.values[i] + 3));
                    }
                }
            }
}

TEST_CASE("nifti: extremes of the types, NaN, and doubles that no float holds") {
    MadeNifti made;
    made.dim = {1, 2};
    made.type = NiftiType::int64;
    made.values = {-0x1p63, 0x1p62};
    CHECK(read_one(nifti_bytes(made)) == std::vector<float>{-0x1p63f, 0x1p62f});
    made.type = NiftiType::float64;
    made.dim = {1, 4};
    made.values = {1e300, -1e300, std::nan(""), 0x1p-149};
    const std::vector<float> got = read_one(nifti_bytes(made));
    CHECK(got[0] == std::numeric_limits<float>::infinity());
    CHECK(got[1] == -std::numeric_limits<float>::infinity());
    CHECK(std::isnan(got[2]));
    CHECK(got[3] == 0x1p-149f);
    // No slope where it is NaN; a slope without an intercept says nothing.
    made.slope = std::nan("");
    made.intercept = std::nan("");
    CHECK(read_one(nifti_bytes(made))[3] == 0x1p-149f);
    made.slope = 2;
    CHECK(sentence(nifti_bytes(made)).find("intercept") != std::string::npos);
}

TEST_CASE("nifti: four and five axes are volumes, one at a time; two axes are a volume of one slice") {
    MadeNifti made;
    made.dim = {5, 2, 3, 2, 3, 2};
    made.type = NiftiType::int16;
    for (int i = 0; i < 72; ++i) made.values.push_back(i);
    const std::string bytes = gzipped(nifti_bytes(made));
    NiftiReader reader = NiftiReader::from_bytes(bytes, "test.nii.gz");
    REQUIRE(reader.header().volumes == 6);
    for (int v = 0; v < 6; ++v) {
        const std::vector<float> got = reader.next();
        REQUIRE(got.size() == 12);
        for (std::size_t i = 0; i < 12; ++i) CHECK(got[i] == static_cast<float>(12 * v) + static_cast<float>(i));
    }
    made.dim = {2, 2, 3};
    CHECK(NiftiReader::from_bytes(nifti_bytes(made), "x").header().shape == std::array<std::int64_t, 3>{2, 3, 1});
}

TEST_CASE("nifti: an extension before the voxels, several gzip members, and bytes behind them") {
    MadeNifti made;
    made.dim = {3, 20, 20, 20};
    for (int i = 0; i < 8000; ++i) made.values.push_back(i % 251);
    made.type = NiftiType::uint8;
    const std::vector<float> expected = read_one(nifti_bytes(made));
    made.data_offset = 352 + 4096;
    const std::string bytes = nifti_bytes(made);
    CHECK((read_one(bytes) == expected));
    CHECK((read_one(bytes + "and more") == expected));
    CHECK((read_one(gzipped(bytes) + "garbage") == expected));
    CHECK((read_one(gzipped(bytes.substr(0, 400)) + gzipped(bytes.substr(400, 3000)) + gzipped(bytes.substr(3400))) ==
           expected));
}

TEST_CASE("nifti: the affine follows sform, then qform, then pixdim, in millimetres") {
    MadeNifti made;
    made.dim = {3, 2, 2, 2};
    made.values.assign(8, 1);
    made.pixdim = {-1, 2, 3, 4};
    const auto affine = [&] { return NiftiReader::from_bytes(nifti_bytes(made), "x").header().affine; };
    CHECK(affine() == Affine{{2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1}});
    // Half a turn about z, and qfac -1: the third axis the other way.
    made.qform_code = 1;
    made.quaternion = {0, 0, 1, 10, 20, 30};
    CHECK(affine() == Affine{{-2, 0, 0, 10, 0, -3, 0, 20, 0, 0, -4, 30, 0, 0, 0, 1}});
    // A turn by 90 degrees about x: the second axis points up.
    made.quaternion = {std::sqrt(0.5), 0, 0, 0, 0, 0};
    made.pixdim[0] = 1;
    const Point up = affine()({0, 1, 0});
    CHECK(up[2] == doctest::Approx(3));
    CHECK(std::abs(up[1]) < 1e-6);
    made.sform_code = 2;
    made.srow = {0, 0, 1, 5, 1, 0, 0, 6, 0, -1, 0, 7};
    CHECK(affine() == Affine{{0, 0, 1, 5, 1, 0, 0, 6, 0, -1, 0, 7, 0, 0, 0, 1}});
    made.units = 3;
    CHECK(affine()(0, 3) == doctest::Approx(0.005));
    made.units = 1;
    CHECK(affine()(1, 0) == 1000);
}

TEST_CASE("nifti: files of other programs, against what nibabel reads from them") {
    struct Expected {
        const char* name;
        std::array<std::int64_t, 3> shape;
        int volumes, version;
        bool big_endian;
        double sum, weighted;  // of all values; of value times index, first axis fastest
        Affine affine;
    };
    const std::string folder = std::string(COVER_SOURCE_DIR) + "/tests/readers/";
    for (const Expected& e :
         {Expected{"standard.nii.gz",
                   {4, 5, 7},
                   1,
                   1,
                   false,
                   7650,
                   549270,
                   {{1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1}}},
          Expected{"example_nifti2.nii.gz",
                   {32, 20, 12},
                   2,
                   2,
                   false,
                   6926802,
                   54137248708,
                   {{-2, 6.714715653593746e-19, 9.081024511081715e-18, 117.8551025390625, -6.714715653593746e-19,
                     1.9737114906311035, -0.35552823543548584, -35.72294235229492, 8.25548088896093e-18,
                     0.3232076168060303, 2.171081781387329, -7.248798370361328, 0, 0, 0, 1}}},
          // Neither sform nor qform: pixdim along right, anterior, superior (nibabel mirrors and centres such a file).
          Expected{
              "minimal.nii.gz", {64, 64, 10}, 1, 1, true, 1290240, 27318036480, Affine::scale_shift({3, 3, 3}, {})}}) {
        CAPTURE(e.name);
        NiftiReader reader = NiftiReader::open(folder + e.name);
        CHECK(reader.header().shape == e.shape);
        CHECK(reader.header().volumes == e.volumes);
        CHECK(reader.header().version == e.version);
        CHECK(reader.header().big_endian == e.big_endian);
        for (std::size_t i = 0; i < 16; ++i) CHECK(reader.header().affine.m[i] == doctest::Approx(e.affine.m[i]));
        double sum = 0, weighted = 0, index = 0;
        for (int v = 0; v < e.volumes; ++v)
            for (const float value : reader.next()) {
                sum += value;
                weighted += value * index++;
            }
        CHECK(sum == e.sum);
        CHECK(weighted == e.weighted);
    }
}

TEST_CASE("nifti: headers that lie are refused in a sentence, before memory is taken") {
    MadeNifti good;
    good.dim = {3, 4, 4, 4};
    good.values.assign(64, 2);
    REQUIRE(sentence(nifti_bytes(good)).empty());
    const auto refused = [&](const char* what, auto change) {
        for (const int version : {1, 2})
            for (const bool compressed : {false, true}) {
                MadeNifti made = good;
                made.version = version;
                change(made);
                const std::string bytes = nifti_bytes(made);
                const std::string why = sentence(compressed ? gzipped(bytes) : bytes);
                CAPTURE(why);
                CAPTURE(version);
                CHECK(why.find("[nifti] test.nii") == 0);
                CHECK(why.find(what) != std::string::npos);
            }
    };
    refused("axes", [](MadeNifti& m) { m.dim[0] = 0; });
    refused("axes", [](MadeNifti& m) { m.dim[0] = 8; });
    refused("elements", [](MadeNifti& m) { m.dim[2] = -4; });
    refused("elements", [](MadeNifti& m) { m.dim[1] = 0; });
    refused("voxels; at most", [](MadeNifti& m) { m.dim = {3, 32767, 32767, 32767}; });
    refused("promises", [](MadeNifti& m) { m.dim = {3, 1000, 1000, 1000}; });
    refused("promises", [](MadeNifti& m) { m.dim = {7, 4, 4, 4, 32767, 32767, 32767, 1}; });
    refused("damaged", [](MadeNifti& m) {
        m.dim = {7, 4, 4, 4, 32767, 32767, 32767, 32767};
        if (m.version == 2) m.dim[4] = INT64_MAX;
    });
    refused("complex", [](MadeNifti& m) { m.datatype = 32; });
    refused("RGB24", [](MadeNifti& m) { m.datatype = 128; });
    refused("128-bit", [](MadeNifti& m) { m.datatype = 1536; });
    refused("unknown datatype", [](MadeNifti& m) { m.datatype = 3; });
    refused("begin at byte", [](MadeNifti& m) { m.stated_offset = 17; });
    refused("begin at byte", [](MadeNifti& m) { m.stated_offset = -1e9; });
    refused("promises", [](MadeNifti& m) { m.stated_offset = 1 << 30; });
    refused("no inverse", [](MadeNifti& m) { m.sform_code = 1; });
    refused("no inverse", [](MadeNifti& m) {
        m.sform_code = 1;
        m.srow = {1, 0, 0, 0, 0, std::nan(""), 0, 0, 0, 0, 1, 0};
    });
    refused("no inverse", [](MadeNifti& m) {
        m.sform_code = 1;
        m.srow = {1, 2, 3, 0, 2, 4, 6, 0, 0, 0, 1, 0};
    });
    refused("qform", [](MadeNifti& m) {
        m.qform_code = 1;
        m.quaternion[1] = std::numeric_limits<double>::infinity();
    });
    refused("pixdim", [](MadeNifti& m) { m.pixdim[2] = std::nan(""); });
    refused("pair", [](MadeNifti& m) { m.single_file = false; });
    CHECK(sentence("").find("empty") != std::string::npos);
    CHECK(sentence("short").find("348") != std::string::npos);
    CHECK(sentence(std::string(600, 'x')).find("no NIfTI") != std::string::npos);
    CHECK(sentence("\x1f\x8b nothing").find("test.nii") != std::string::npos);
}

TEST_CASE("nifti: a file cut anywhere is refused, also in the check sum at its end") {
    MadeNifti made;
    made.dim = {3, 9, 8, 7};
    for (int i = 0; i < 504; ++i) made.values.push_back((i * 37) % 101);
    const std::string plain = nifti_bytes(made), packed = gzipped(plain);
    for (const std::string& whole : {plain, packed}) {
        REQUIRE(sentence(whole).empty());
        for (std::size_t at = 0; at < whole.size(); at += at + 20 < whole.size() ? 11 : 1) {
            CAPTURE(at);
            CHECK_FALSE(sentence(whole.substr(0, at)).empty());
        }
    }
    std::string flipped = packed;
    flipped[packed.size() - 7] = static_cast<char>(flipped[packed.size() - 7] ^ 1);
    CHECK(sentence(flipped).find("damaged") != std::string::npos);
    // Whatever byte is wrong: a sentence or a volume, nothing else.
    std::minstd_rand random(1);
    for (int round = 0; round < 4000; ++round) {
        std::string broken = round % 2 ? packed : plain;
        for (int k = 0; k < 3; ++k)
            broken[random() % std::min<std::size_t>(broken.size(), 420)] = static_cast<char>(random());
        try {
            NiftiReader reader = NiftiReader::from_bytes(broken, "broken");
            const std::vector<float> got = reader.next();
            CHECK(got.size() == static_cast<std::size_t>(reader.header().voxels()));
            CHECK(inverse(reader.header().affine).has_value());
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::data);
        }
    }
}

TEST_CASE("nifti: what is written is read back, in the place of the file that it follows") {
    const TemporaryFolder folder;
    MadeNifti made;
    made.dim = {3, 4, 3, 2};
    made.values.assign(24, 1);
    made.pixdim = {-1, 0.7, 0.8, 3};
    made.qform_code = 1;
    made.quaternion = {0.1, -0.2, 0.3, -11.5, 12.25, 13};
    made.sform_code = 2;
    made.srow = {0.7, 0.01, 0, -90, 0, 0.8, -0.02, 4, 0.03, 0, 3, 8};
    std::vector<float> values(48);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.25f - 3;
    for (const int version : {1, 2})
        for (const bool big_endian : {false, true})
            for (const char* name : {"/a.nii", "/a.nii.gz"}) {
                made.version = version;
                made.big_endian = big_endian;
                const NiftiHeader like = NiftiReader::from_bytes(nifti_bytes(made), "x").header();
                const std::string path = folder.path() + name;
                write_nifti(path, like, {.volumes = 2, .description = "two volumes"}, values.data());
                NiftiReader reader = NiftiReader::open(path);
                const NiftiHeader& h = reader.header();
                CHECK(h.affine == like.affine);
                CHECK(h.shape == like.shape);
                CHECK(h.volumes == 2);
                CHECK(h.version == version);
                CHECK(h.quaternion == like.quaternion);
                CHECK(std::equal(h.pixdim.begin(), h.pixdim.begin() + 4, like.pixdim.begin()));
                CHECK(h.qform_code == 1);
                CHECK(h.sform_code == 2);
                CHECK(h.description == "two volumes");
                std::vector<float> got = reader.next();
                const std::vector<float> second = reader.next();
                got.insert(got.end(), second.begin(), second.end());
                CHECK(got == values);
                const std::string first = bytes_of(path);
                write_nifti(path, like, {.volumes = 2, .description = "two volumes"}, values.data());
                CHECK((bytes_of(path) == first));
            }
    const std::vector<std::uint8_t> labels = {0, 1, 2, 255};
    const Affine oblique{{0, -2, 0, 5, 1.5, 0, 0, 6, 0, 0, 4, 7, 0, 0, 0, 1}};
    write_nifti(folder.path() + "/labels.nii", make_nifti_header({2, 2, 1}, oblique), {.type = NiftiType::uint8},
                labels.data());
    NiftiReader reader = NiftiReader::open(folder.path() + "/labels.nii");
    CHECK(reader.header().affine == oblique);
    CHECK(reader.header().type == NiftiType::uint8);
    CHECK(reader.next() == std::vector<float>{0, 1, 2, 255});
    const std::vector<float> field(12, 1.5f);
    write_nifti(folder.path() + "/field.nii", reader.header(), {.volumes = 3, .vector_valued = true}, field.data());
    CHECK(NiftiReader::open(folder.path() + "/field.nii").header().volumes == 3);
    CHECK_THROWS_AS(write_nifti(folder.path() + "/no/such/folder.nii", reader.header(), {}, field.data()), Error);
}

TEST_CASE("geometry: all 48 orders of axes of one volume become the same, and lead back") {
    const std::array<std::int64_t, 3> ras = {3, 4, 5};
    std::vector<float> truth(60);
    for (std::size_t i = 0; i < truth.size(); ++i) truth[i] = static_cast<float>(i);
    const Affine world = Affine::scale_shift({2, 3, 4}, {-10, -20, -30});
    int orders = 0;
    std::array<int, 3> axes{0, 1, 2};
    do {
        for (int flips = 0; flips < 8; ++flips) {
            ++orders;
            // File axis a runs along world axis axes[a], backwards where the bit is set.
            std::array<std::int64_t, 3> shape{};
            Affine to_truth;
            for (int a = 0; a < 3; ++a) to_truth(a, a) = 0;
            for (std::size_t a = 0; a < 3; ++a) {
                const int target = axes[a];
                const bool back = flips >> a & 1;
                shape[a] = ras[static_cast<std::size_t>(target)];
                to_truth(target, static_cast<int>(a)) = back ? -1 : 1;
                if (back) to_truth(target, 3) = static_cast<double>(shape[a] - 1);
            }
            std::vector<float> file;
            for (std::int64_t k = 0; k < shape[2]; ++k)
                for (std::int64_t j = 0; j < shape[1]; ++j)
                    for (std::int64_t i = 0; i < shape[0]; ++i) {
                        const Point p =
                            to_truth({static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)});
                        file.push_back(truth[static_cast<std::size_t>((p[0] * 4 + p[1]) * 5 + p[2])]);
                    }
            const Affine affine = world * to_truth;
            const AxisOrder order = closest_ras(affine);
            CHECK(to_stored_order(file, shape, order) == truth);
            const Affine back = index_map(order, shape);
            CHECK(affine * back == world);
            const SampleGeometry geometry{affine * back, affine, shape};
            const Affine stored = source_to_stored(geometry, "x") * back;
            for (std::size_t e = 0; e < 16; ++e) CHECK(stored.m[e] == doctest::Approx(Affine().m[e]));
        }
    } while (std::next_permutation(axes.begin(), axes.end()));
    CHECK(orders == 48);
}

TEST_CASE("geometry: oblique, sheared and mirrored affines go to the nearest order; inverses invert") {
    // Turned by 30 degrees about z, anisotropic: still right, anterior, superior.
    const double c = std::sqrt(0.75), s = 0.5;
    const Affine turned{{0.5 * c, -9 * s, 0, 1, 0.5 * s, 9 * c, 0, 2, 0, 0, 3, 3, 0, 0, 0, 1}};
    CHECK(closest_ras(turned) == AxisOrder{});
    // By 60 degrees: the first axis is nearer to anterior, the second to left.
    const Affine more{{0.5 * s, -9 * c, 0, 1, 0.5 * c, 9 * s, 0, 2, 0, 0, 3, 3, 0, 0, 0, 1}};
    CHECK(closest_ras(more) == AxisOrder{{1, 0, 2}, {true, false, false}});
    const Affine mirrored{{-1, 0.3, 0, 0, 0.2, 1, 0.1, 0, 0, 0.2, -2, 0, 0, 0, 0, 1}};
    CHECK(closest_ras(mirrored) == AxisOrder{{0, 1, 2}, {true, false, true}});
    for (const Affine& a : {turned, more, mirrored}) {
        const Affine one = a * *inverse(a);
        for (std::size_t e = 0; e < 16; ++e) CHECK(one.m[e] == doctest::Approx(Affine().m[e]).epsilon(1e-12));
    }
    CHECK_FALSE(inverse(Affine{{1, 2, 0, 0, 2, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}}).has_value());
    CHECK_FALSE(inverse(Affine::scale_shift({1, 0, 1}, {0, 0, 0})).has_value());
}
