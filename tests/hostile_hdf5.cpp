// HDF5 files that are damaged or made to do harm: each is a sentence with exit code 4, and leaves nothing behind.
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>

#include "core/file.h"
#include "core/rng.h"
#include "data/h5_process.h"
#include "data/h5_write.h"
#include "data/patches.h"
#include "tests/data_support.h"
#include "tests/hostile_support.h"

namespace cover::test {
namespace {

constexpr std::int64_t mib = 1 << 20;
// Of this process for the facts of a file (docs/threat_model.md); the child has as much of its own.
constexpr std::int64_t stated_bound = 512 * mib;

ForeignDataset dataset_of(std::vector<hsize_t> shape, hid_t file_type = -1) {
    ForeignDataset d;
    d.shape = std::move(shape);
    d.file_type = file_type >= 0 ? file_type : H5T_STD_U8LE;
    d.memory_type = H5T_NATIVE_UCHAR;
    return d;
}

std::vector<unsigned char> noise(std::size_t bytes) {
    std::vector<unsigned char> out(bytes);
    RandomStream random({.seed = 5, .purpose = Purpose::test});
    for (auto& b : out) b = static_cast<unsigned char>(random.below(256));
    return out;
}

// A file whose only content is made by body(file).
template <class Body>
void make_file(const std::string& path, Body body, bool latest = false) {
    H5dont_atexit();
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (latest) REQUIRE(H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) >= 0);
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    REQUIRE(file >= 0);
    body(file);
    REQUIRE(H5Fclose(file) >= 0);
    H5Pclose(access);
}

void make_dataset(hid_t file, const char* path, hid_t type, const std::vector<hsize_t>& shape, hid_t creation) {
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t d = H5Dcreate2(file, path, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    REQUIRE(d >= 0);
    H5Dclose(d);
    H5Sclose(space);
}

struct Hostile {
    const char* name;
    const char* part;  // of the sentence that `cover pretrain` gives
    std::function<void(const std::string& path)> make;
};

std::vector<Hostile> hostile_files() {
    static const std::vector<unsigned char> pixels = noise(4 * 48 * 48);
    static const std::vector<float> nans(4 * 48 * 48, std::numeric_limits<float>::quiet_NaN());
    const auto good = [](const std::string& path) {
        ForeignDataset d = dataset_of({4, 1, 48, 48});
        d.data = pixels.data();
        write_foreign(path, {0, false, {d}});
    };
    const auto with_creation = [](const std::string& path, const std::vector<hsize_t>& shape, auto set) {
        make_file(path, [&](hid_t file) {
            const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
            set(creation);
            make_dataset(file, "/images", H5T_STD_U8LE, shape, creation);
            H5Pclose(creation);
        });
    };
    return {
        {"empty", "is empty", [](const std::string& path) { write_bytes(path, ""); }},
        {"text", "not an HDF5 file", [](const std::string& path) { write_bytes(path, std::string(9000, 'x')); }},
        {"truncated head", "damaged",
         [=](const std::string& path) {
             good(path);
             write_bytes(path, bytes_of(path).substr(0, 700));
         }},
        {"truncated tail", "damaged",
         [=](const std::string& path) {
             good(path);
             const std::string bytes = bytes_of(path);
             write_bytes(path, bytes.substr(0, bytes.size() - 100));
         }},
        {"no images", "there is no dataset /images",
         [](const std::string& path) {
             ForeignDataset d = dataset_of({4, 1, 48, 48});
             d.path = "/pictures";
             d.data = pixels.data();
             write_foreign(path, {0, false, {d}});
         }},
        {"strings for images", "holds no numbers",
         [](const std::string& path) {
             H5Writer writer(path);
             writer.strings("/images", {"a", "b"});
             writer.commit();
         }},
        {"a compound type", "neither integer",
         [=](const std::string& path) {
             make_file(path, [](hid_t file) {
                 const hid_t pair = H5Tcreate(H5T_COMPOUND, 8);
                 H5Tinsert(pair, "r", 0, H5T_NATIVE_FLOAT);
                 H5Tinsert(pair, "i", 4, H5T_NATIVE_FLOAT);
                 make_dataset(file, "/images", pair, {4, 1, 48, 48}, H5P_DEFAULT);
                 H5Tclose(pair);
             });
         }},
        {"two axes", "has 2 axes",
         [](const std::string& path) {
             ForeignDataset d = dataset_of({96, 96});
             d.data = pixels.data();
             write_foreign(path, {0, false, {d}});
         }},
        {"six axes", "has 6 axes",
         [](const std::string& path) {
             ForeignDataset d = dataset_of({1, 1, 1, 4, 48, 48});
             d.data = pixels.data();
             write_foreign(path, {0, false, {d}});
         }},
        {"no samples", "holds no samples",
         [](const std::string& path) {
             write_foreign(path, {0, false, {dataset_of({0, 1, 48, 48})}});
         }},
        {"NaN", "NaN or infinite",
         [](const std::string& path) {
             ForeignDataset d = dataset_of({4, 1, 48, 48}, H5T_IEEE_F32LE);
             d.memory_type = H5T_NATIVE_FLOAT;
             d.data = nans.data();
             write_foreign(path, {0, false, {d}});
         }},
        {"2^40 samples that were never written", "never written",
         [](const std::string& path) {
             write_foreign(path, {0, false, {dataset_of({hsize_t{1} << 40, 1, 48, 48})}});
         }},
        {"a sample of 2^48 pixels that was never written", "never written",
         [](const std::string& path) {
             write_foreign(path, {0, false, {dataset_of({2, 1, hsize_t{1} << 24, hsize_t{1} << 24})}});
         }},
        {"chunks of 3 GiB that were never written", "never written",
         [=](const std::string& path) {
             with_creation(path, {2, 1, 3 << 15, 1 << 15}, [](hid_t creation) {
                 const hsize_t chunk[4] = {1, 1, 3 << 15, 1 << 15};
                 REQUIRE(H5Pset_chunk(creation, 4, chunk) >= 0);
             });
         }},
        {"2^40 samples in chunks", "more than 20000 chunks",
         [=](const std::string& path) {
             make_file(path, [](hid_t file) {
                 const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
                 const hsize_t chunk[4] = {1, 1, 48, 48}, one[4] = {1, 1, 48, 48}, start[4] = {};
                 REQUIRE(H5Pset_chunk(creation, 4, chunk) >= 0);
                 const hsize_t shape[4] = {hsize_t{1} << 40, 1, 48, 48};
                 const hid_t space = H5Screate_simple(4, shape, nullptr), memory = H5Screate_simple(4, one, nullptr);
                 const hid_t d = H5Dcreate2(file, "/images", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
                 REQUIRE(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, one, nullptr) >= 0);
                 REQUIRE(H5Dwrite(d, H5T_NATIVE_UCHAR, memory, space, H5P_DEFAULT, pixels.data()) >= 0);
                 H5Dclose(d);
                 H5Sclose(space);
                 H5Sclose(memory);
                 H5Pclose(creation);
             });
         }},
        {"a plug-in filter", "filter number 32001",
         [=](const std::string& path) {
             with_creation(path, {4, 1, 48, 48}, [](hid_t creation) {
                 const hsize_t chunk[4] = {1, 1, 48, 48};
                 REQUIRE(H5Pset_chunk(creation, 4, chunk) >= 0);
                 REQUIRE(H5Pset_filter(creation, 32001, H5Z_FLAG_OPTIONAL, 0, nullptr) >= 0);
             });
         }},
        {"external storage", "in another file",
         [=](const std::string& path) {
             with_creation(path, {4, 1, 48, 48}, [](hid_t creation) {
                 REQUIRE(H5Pset_external(creation, "/etc/hostname", 0, 4 * 48 * 48) >= 0);
             });
         }},
        {"an external link", "link into another file",
         [](const std::string& path) {
             make_file(path, [](hid_t file) {
                 REQUIRE(H5Lcreate_external("/etc/hostname", "/images", file, "/images", H5P_DEFAULT, H5P_DEFAULT) >=
                         0);
             });
         }},
        {"a virtual data set", "virtual data set",
         [=](const std::string& path) {
             const hsize_t shape[4] = {4, 1, 48, 48};
             const hid_t space = H5Screate_simple(4, shape, nullptr);
             with_creation(path, {4, 1, 48, 48}, [&](hid_t creation) {
                 REQUIRE(H5Pset_virtual(creation, space, "/etc/hostname", "/images", space) >= 0);
             });
             H5Sclose(space);
         }},
        {"a soft link to itself", "soft link",
         [](const std::string& path) {
             make_file(path, [](hid_t file) {
                 REQUIRE(H5Lcreate_soft("/images", file, "/images", H5P_DEFAULT, H5P_DEFAULT) >= 0);
             });
         }},
        {"groups in a circle", "there is no dataset /images",
         [](const std::string& path) {
             make_file(path, [](hid_t file) {
                 H5Gclose(H5Gcreate2(file, "/a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
                 REQUIRE(H5Lcreate_hard(file, "/", file, "/a/root", H5P_DEFAULT, H5P_DEFAULT) >= 0);
                 REQUIRE(H5Lcreate_hard(file, "/a", file, "/a/a", H5P_DEFAULT, H5P_DEFAULT) >= 0);
             });
         }},
        {"groups 200 deep", "deeper than 64 levels",
         [](const std::string& path) {
             make_file(path, [](hid_t file) {
                 std::string name;
                 for (int i = 0; i < 200; ++i) {
                     name += "/g";
                     H5Gclose(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
                 }
             });
         }},
        {"one attribute of 8 MiB under 100 names", "too many objects, attributes or strings",
         [](const std::string& path) {
             make_file(
                 path,
                 [](hid_t file) {
                     const std::vector<double> numbers(mib, 1.0 / 3);
                     const hsize_t count = mib;
                     const hid_t space = H5Screate_simple(1, &count, nullptr);
                     const hid_t group = H5Gcreate2(file, "/a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
                     const hid_t scalar = H5Screate(H5S_SCALAR);
                     const hid_t d =
                         H5Dcreate2(group, "d", H5T_STD_U8LE, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
                     const hid_t attribute =
                         H5Acreate2(d, "numbers", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, H5P_DEFAULT);
                     REQUIRE(H5Awrite(attribute, H5T_NATIVE_DOUBLE, numbers.data()) >= 0);
                     H5Aclose(attribute);
                     H5Dclose(d);
                     for (int i = 0; i < 100; ++i)
                         REQUIRE(H5Lcreate_hard(group, "d", group, text("link", i).c_str(), H5P_DEFAULT, H5P_DEFAULT) >=
                                 0);
                     H5Gclose(group);
                     H5Sclose(space);
                     H5Sclose(scalar);
                 },
                 true);
         }},
    };
}

// What `pretrain` and `prepare` do with a file, in this process: the sentence, or "" when all of it was read.
std::string read_whole(const std::string& path, bool sequential) {
    return data_error([&] {
        const PatchFile file = PatchFile::open(
            {path}, {.sequential = sequential, .stored_units = sequential, .allow_non_finite = sequential});
        std::vector<float> values(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
        for (std::int64_t i = 0; i < file.sample_count(); ++i) {
            file.read_sample(i, values.data());
            (void)file.subject(i);
        }
    });
}

}  // namespace

TEST_CASE("hostile hdf5: every kind is one sentence with exit code 4, and nothing is written") {
    forget_children();
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/in.h5";
    for (const Hostile& hostile : hostile_files()) {
        CAPTURE(hostile.name);
        hostile.make(path);
        reset_peak();
        for (const bool sequential : {false, true}) {
            const auto start = std::chrono::steady_clock::now();
            const std::string sentence = read_whole(path, sequential);
            // `prepare` takes a NaN for the minimum, looks for images under other names, and knows the rest as well.
            const bool forgiven =
                sequential && (std::string(hostile.name) == "NaN" || std::string(hostile.name) == "no images");
            CHECK_MESSAGE(sentence.empty() == forgiven, sentence);
            if (!sequential) CHECK_MESSAGE(sentence.find(hostile.part) != std::string::npos, sentence);
            if (!sentence.empty()) CHECK_MESSAGE(sentence.find(path) != std::string::npos, sentence);
            CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
        }
        CHECK(peak_growth() < stated_bound);
    }
    const std::int64_t largest = largest_child();
    CHECK(largest < 560 * mib);
}

TEST_CASE("hostile hdf5: the program ends with 4 and leaves no file") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/in.h5";
    // The program's whole way for a few of them; the reader itself is the same for all.
    for (const Hostile& hostile : hostile_files()) {
        const std::string name = hostile.name;
        if (!long_tests() && name != "NaN" && name != "truncated tail" && name.rfind("2^40 samples that", 0) != 0)
            continue;
        CAPTURE(name);
        hostile.make(path);
        const auto training = run_limited(
            folder,
            "pretrain --data %d/in.h5 --out %d/run --steps 1 --patch 32 --batch 1 --channels 8,8,8,8,8,8,8,8,8");
        CHECK(misfit(training, 4, hostile.part) == "");
        // A sample is found bad when it is read: the run has begun by then, and keeps the steps before it.
        if (name != "NaN") CHECK(!std::filesystem::exists(folder.path() + "/run"));
        const auto prepared = run_limited(folder, "prepare %d/in.h5 --out %d/out.h5");
        if (name == "NaN")  // every image of it has no finite value
            CHECK(misfit(prepared, 4, "no finite value") == "");
        else if (name != "no images")
            CHECK(misfit(prepared, 4, path) == "");
        std::filesystem::remove(folder.path() + "/out.h5");
        std::filesystem::remove_all(folder.path() + "/run");
        CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
    }
}

// Of this process and its children, so that a busy machine does not count.
static double processor_seconds() {
    double sum = 0;
    for (const int whose : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
        rusage use{};
        getrusage(whose, &use);
        for (const timeval& t : {use.ru_utime, use.ru_stime})
            sum += static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    }
    return sum;
}

TEST_CASE("hostile hdf5: random mutations never end in a signal, a hang or more memory than stated") {
    forget_children();
    const TemporaryFolder folder;
    const std::vector<unsigned char> pixels = noise(6 * 32 * 32);
    std::vector<std::string> good;
    const std::string path = folder.path() + "/m.h5";
    {
        H5Writer writer(path);
        writer.dataset("/images", H5Store::uint8, {6, 1, 32, 32}, pixels.data());
        writer.attribute("/images", "axes", std::string("NCHW"));
        writer.attribute("/images", "spacing", std::vector<double>{1, 1});
        writer.strings("/subject", {"a", "b", "c", "d", "e", "f"});
        writer.attribute("/", "cover_schema", std::int64_t{1});
        writer.commit();
        good.push_back(bytes_of(path));
    }
    for (const bool latest : {false, true})
        for (const bool whole : {false, true}) {
            ForeignDataset d = dataset_of({6, 1, 32, 32}, H5T_STD_U16LE);
            d.data = pixels.data();
            d.chunk = whole ? std::vector<hsize_t>{1, 1, 32, 32} : std::vector<hsize_t>{2, 1, 13, 32};
            d.shuffle = d.deflate = true;
            d.fletcher32 = whole;
            d.axes = "NCHW";
            ForeignDataset plain = dataset_of({6});
            plain.path = "/subject";
            plain.data = pixels.data();
            write_foreign(path, {latest ? hsize_t{512} : hsize_t{0}, latest, {d, plain}});
            good.push_back(bytes_of(path));
        }
    for (const std::string& bytes : good) {
        write_bytes(path, bytes);
        CHECK(read_whole(path, true) == "");
    }

    RandomStream random({.seed = 20, .purpose = Purpose::test});
    const int rounds = long_tests() ? 5000 : 80;
    int refused = 0, died = 0;
    std::int64_t most = 0;
    double longest = 0;
    for (int round = 0; round < rounds; ++round) {
        std::string bytes = good[static_cast<std::size_t>(round) % good.size()];
        const std::int64_t changes = 1 + random.below(8);
        for (std::int64_t change = 0; change < changes; ++change) {
            const auto size = static_cast<std::int64_t>(bytes.size());
            const std::int64_t reach = random.below(10) == 0 ? size : std::min<std::int64_t>(size, 5 * 1024);
            const auto at = static_cast<std::size_t>(random.below(reach));
            switch (random.below(4)) {
            case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8))); break;
            case 1: bytes[at] = static_cast<char>(random.below(256)); break;
            case 2: bytes[at] = static_cast<char>(random.below(2) ? 0xff : 0); break;
            default:
                for (std::size_t i = at; i < std::min(bytes.size(), at + 8); ++i)
                    bytes[i] = static_cast<char>(random.below(3) ? 0xff : random.below(256));
            }
        }
        if (random.below(20) == 0)
            bytes.resize(static_cast<std::size_t>(random.below(static_cast<std::int64_t>(bytes.size()))));
        write_bytes(path, bytes);
        reset_peak();
        const double start = processor_seconds();
        for (const bool sequential : {false, true}) {
            const std::string sentence = read_whole(path, sequential);
            CHECK_MESSAGE((sentence.empty() || sentence.rfind("[", 0) == 0), "round ", round, ": ", sentence);
            refused += !sentence.empty();
            died += sentence.find("died on this file") != std::string::npos;
        }
        longest = std::max(longest, processor_seconds() - start);
        most = std::max(most, peak_growth());
        // As a user would meet it, for some of them.
        if (round % (long_tests() ? 10 : 40) == 0) {
            const auto outcome = run_limited(folder, "prepare %d/m.h5 --out %d/out.h5 --size 32");
            CHECK_MESSAGE((outcome.code == 0 || outcome.code == 4), "round ", round, ": ", outcome.err);
            std::filesystem::remove(folder.path() + "/out.h5");
            CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
        }
    }
    const std::int64_t largest = largest_child();
    MESSAGE(rounds, " mutations read twice: ", refused, " readings refused, ", died,
            " of them because the library died in its child; longest ", longest, " s of a processor, peak growth ",
            most / mib, " MiB here, ", largest / mib, " MiB in a child");
    CHECK(refused > rounds / 4);
    CHECK(refused < 2 * rounds);
    CHECK(longest < 2 * h5_time_limit_seconds + 20);  // two readings
    CHECK(most < stated_bound);
    CHECK(largest < 560 * mib);
}

}  // namespace cover::test
