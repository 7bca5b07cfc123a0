#include "nn/safetensors.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/check.h"
#include "core/file.h"
#include "tests/support.h"

namespace cover {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
    std::string bytes(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, 8);
    return bytes + header + data;
}

// The sentence with which a file of these bytes is refused; empty when it is accepted.
std::string refusal(const std::string& bytes) {
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/file.safetensors";
    write_file(path, bytes);
    try {
        read_safetensors(path);
    } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::data);
        return error.what();
    }
    return "";
}

bool says(const std::string& sentence, const char* part) {
    const bool found = sentence.find(part) != std::string::npos;
    if (!found) MESSAGE("'", sentence, "' does not say '", part, "'");
    return found;
}

}  // namespace

TEST_CASE("safetensors: what is written is read back, types, shapes and order included") {
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/w.safetensors";
    std::vector<NamedTensor> tensors;
    tensors.push_back({"z.weight", test::random_tensor({2, 3, 5}, DType::float32, 1)});
    tensors.push_back({"a.bias", test::random_tensor({7}, DType::float64, 2)});
    tensors.push_back({"half \"quoted\"", test::random_tensor({3, 1}, DType::bfloat16, 3)});
    tensors.push_back({"scalar", test::random_tensor({}, DType::float32, 4)});
    write_safetensors(path, tensors, {{"warp", "exact"}, {"degree", "1.5"}});

    const auto file = read_safetensors(path);
    REQUIRE(file.tensors.size() == tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        CHECK(file.tensors[i].name == tensors[i].name);
        CHECK(file.tensors[i].tensor.shape() == tensors[i].tensor.shape());
        REQUIRE(file.tensors[i].tensor.dtype() == tensors[i].tensor.dtype());
        CHECK(std::memcmp(file.tensors[i].tensor.view().data, tensors[i].tensor.view().data,
                          tensors[i].tensor.bytes()) == 0);
    }
    CHECK(file.metadata == Metadata{{"degree", "1.5"}, {"warp", "exact"}});
    CHECK(file.find("a.bias") != nullptr);
    CHECK(file.find("a.weight") == nullptr);

    const auto first = read_file(path);
    CHECK(static_cast<unsigned char>(first[0]) % 8 == 0);
    write_safetensors(path, tensors, {{"degree", "1.5"}, {"warp", "exact"}});
    CHECK(read_file(path) == first);
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("safetensors: halves are widened exactly") {
    const std::uint16_t halves[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x03ff, 0x7c00, 0xfc00};
    const float expected[] = {0.0f,     -0.0f,           1.0f,     -2.0f,    65504.0f, 0x1p-14f,
                              0x1p-24f, 1023 * 0x1p-24f, INFINITY, -INFINITY};
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/h.safetensors";
    write_file(path, file_of(R"({"h":{"dtype":"F16","shape":[10],"data_offsets":[0,20]}})",
                             std::string(reinterpret_cast<const char*>(halves), sizeof halves)));
    const auto file = read_safetensors(path);
    REQUIRE(file.tensors.size() == 1);
    CHECK(std::memcmp(file.tensors[0].tensor.view().data, expected, sizeof expected) == 0);
}

TEST_CASE("safetensors: a name used twice is not written") {
    const test::TemporaryFolder folder;
    const auto t = Tensor::zeros({1});
    CHECK_THROWS_AS(write_safetensors(folder.path() + "/w", {{"a", t}, {"a", t}}, {}), Error);
    CHECK_THROWS_AS(write_safetensors(folder.path() + "/w", {{"__metadata__", t}}, {}), Error);
    CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("safetensors: hostile files are refused with a sentence") {
    const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    const std::string eight(8, '\0');
    CHECK(refusal(file_of(good, eight)) == "");
    CHECK(refusal(file_of(good + "   ", eight)) == "");
    CHECK(refusal(file_of(R"({"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}})", "")) == "");

    SUBCASE("length of the header") {
        CHECK(says(refusal(""), "at least 8"));
        CHECK(says(refusal("1234567"), "at least 8"));
        CHECK(says(refusal(std::string(8, '\xff') + "{}"), "promises a header"));
        CHECK(says(refusal(std::string(8, '\0') + "{}"), "promises a header"));
        std::string huge = file_of(good, eight);
        huge[4] = 1;  // 4 GiB
        CHECK(says(refusal(huge), "promises a header"));
    }
    SUBCASE("no JSON, or not this JSON") {
        CHECK(says(refusal(file_of("[]", "")), "begin with"));
        CHECK(says(refusal(file_of(" " + good, eight)), "begin with"));
        CHECK(says(refusal(file_of("{\"a\":", "")), "no JSON"));
        CHECK(says(refusal(file_of(good + good, eight)), "no JSON"));
        CHECK(says(refusal(file_of("{" + std::string(100000, '['), "")), "no JSON"));
        CHECK(says(refusal(file_of("{\"a\":" + std::string(100000, '['), "")), "a list"));
        CHECK(says(refusal(file_of("{\"a\":" + std::string(1000, '{'), "")), "no JSON"));
        CHECK(says(refusal(file_of(R"({"a":3})", "")), "a number"));
        CHECK(says(refusal(file_of(R"({"a":{}})", "")), "lacks"));
        CHECK(says(refusal(file_of(R"({"__metadata__":{"k":{}}})", "")), "an object"));
        CHECK(says(refusal(file_of(R"({"__metadata__":{"k":1}})", "")), "a number"));
        CHECK(says(refusal(file_of("{\"\xff\xfe\":{}}", "")), "no JSON"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", eight)), "fraction"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", eight)), "negative"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", eight)),
                   "unknown entry"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})", eight)),
                   "twice"));
    }
    SUBCASE("types, shapes and ranges") {
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", eight)), "I64"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", eight)), "needs 12"));
        CHECK(says(refusal(file_of(good, eight.substr(1))), "claims bytes"));
        CHECK(says(refusal(file_of(good, eight + "x")), "no tensor"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", eight)), "claims"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", eight)), "two"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", eight)), "two"));
        CHECK(
            says(refusal(file_of(
                     R"({"a":{"dtype":"F32","shape":[281474976710656,281474976710656],"data_offsets":[0,8]}})", eight)),
                 "impossible"));
        CHECK(says(
            refusal(file_of(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})", eight)),
            "impossible"));
        CHECK(says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]}})", eight)),
                   "dimensions"));
    }
    SUBCASE("overlaps, gaps and names used twice") {
        const std::string sixteen(16, '\0');
        CHECK(says(refusal(file_of(
                       good.substr(0, good.size() - 1) + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                       sixteen)),
                   "inside"));
        CHECK(says(refusal(file_of(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", sixteen)), "gap"));
        CHECK(says(refusal(file_of(
                       good.substr(0, good.size() - 1) + R"(,"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                       sixteen)),
                   "twice"));
    }
}

TEST_CASE("safetensors: absent files and folders are input/output errors") {
    const test::TemporaryFolder folder;
    for (const auto& path : {folder.path() + "/none", folder.path()}) {
        try {
            read_safetensors(path);
            FAIL("accepted");
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::io);
        }
    }
}

}  // namespace cover
