// data/image.h: what PNG and JPEG files hold, and how damaged ones are refused.
#include <png.h>

#include <cstdio>

#include "data/image.h"
// jpeglib.h needs FILE and size_t from above.
#include <jpeglib.h>

#include <cmath>
#include <cstdlib>

#include "tests/data_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;

namespace {

struct PngSpec {
    int width = 5, height = 3, type = PNG_COLOR_TYPE_GRAY, depth = 8;
    bool interlaced = false;
    std::vector<png_color> palette;
    std::vector<png_byte> transparency;  // of the palette's entries
};

// rows: packed as PNG wants them, one after the other.
std::string make_png(const PngSpec& spec, std::vector<unsigned char> rows) {
    std::string out;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(
        png, &out,
        [](png_structp p, png_bytep data, std::size_t n) {
            static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<const char*>(data), n);
        },
        nullptr);
    png_set_IHDR(png, info, static_cast<png_uint_32>(spec.width), static_cast<png_uint_32>(spec.height), spec.depth,
                 spec.type, spec.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (!spec.palette.empty()) png_set_PLTE(png, info, spec.palette.data(), static_cast<int>(spec.palette.size()));
    if (!spec.transparency.empty())
        png_set_tRNS(png, info, spec.transparency.data(), static_cast<int>(spec.transparency.size()), nullptr);
    png_write_info(png, info);
    const std::size_t row_bytes = png_get_rowbytes(png, info);
    rows.resize(row_bytes * static_cast<std::size_t>(spec.height));
    const int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; ++pass)
        for (int y = 0; y < spec.height; ++y) png_write_row(png, rows.data() + static_cast<std::size_t>(y) * row_bytes);
    png_write_end(png, nullptr);
    png_destroy_write_struct(&png, &info);
    return out;
}

// gray or RGB, by the size of `samples`.
std::string make_jpeg(int width, int height, const std::vector<unsigned char>& samples) {
    jpeg_compress_struct jpeg{};
    jpeg_error_mgr errors{};
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    unsigned char* data = nullptr;
    unsigned long bytes = 0;
    jpeg_mem_dest(&jpeg, &data, &bytes);
    jpeg.image_width = static_cast<JDIMENSION>(width);
    jpeg.image_height = static_cast<JDIMENSION>(height);
    jpeg.input_components = static_cast<int>(samples.size()) / (width * height);
    jpeg.in_color_space = jpeg.input_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; ++y) {
        auto* row = const_cast<unsigned char*>(samples.data()) + y * width * jpeg.input_components;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    std::string out(reinterpret_cast<char*>(data), bytes);
    std::free(data);
    return out;
}

}  // namespace

TEST_CASE("image: gray of 1, 2, 4, 8 and 16 bits, interlaced or not") {
    for (const bool interlaced : {false, true})
        for (const int depth : {1, 2, 4, 8, 16}) {
            CAPTURE(depth);
            PngSpec spec;
            spec.depth = depth;
            spec.interlaced = interlaced;
            const int row_bytes = (5 * depth + 7) / 8, levels = 1 << depth;
            std::vector<unsigned char> rows(static_cast<std::size_t>(3 * row_bytes), 0);
            std::vector<int> values;
            for (int y = 0; y < 3; ++y)
                for (int x = 0; x < 5; ++x) {
                    const int value = (x * 7919 + y * 104729 + 12345) % levels;
                    values.push_back(value);
                    for (int bit = 0; bit < depth; ++bit)
                        if (value >> (depth - 1 - bit) & 1)
                            rows[static_cast<std::size_t>(y * row_bytes + (x * depth + bit) / 8)] |=
                                static_cast<unsigned char>(0x80 >> ((x * depth + bit) % 8));
                }
            const Image image = decode_image(make_png(spec, rows), "a.png");
            CHECK(image.width == 5);
            CHECK(image.height == 3);
            CHECK(image.channels == 1);
            CHECK(image.maximum == (depth == 16 ? 65535 : 255));
            REQUIRE(image.pixels.size() == 15);
            for (std::size_t i = 0; i < 15; ++i)
                CHECK(image.pixels[i] == static_cast<float>(values[i] * (image.maximum / (levels - 1))));
        }
}

TEST_CASE("image: colours become luminance or stay, alpha lies over black") {
    PngSpec spec;
    spec.width = 2;
    spec.height = 1;
    spec.type = PNG_COLOR_TYPE_RGB;
    std::string png = make_png(spec, {255, 0, 100, 10, 20, 30});
    Image image = decode_image(png, "a.png");
    CHECK(image.pixels[0] == doctest::Approx(0.299 * 255 + 0.114 * 100));
    CHECK(image.pixels[1] == doctest::Approx(0.299 * 10 + 0.587 * 20 + 0.114 * 30));
    image = decode_image(png, "a.png", 3);
    CHECK(image.channels == 3);
    CHECK(image.pixels == std::vector<float>{255, 0, 100, 10, 20, 30});

    spec.type = PNG_COLOR_TYPE_RGB_ALPHA;
    image = decode_image(make_png(spec, {200, 200, 200, 51, 50, 60, 70, 0}), "a.png", 3);
    CHECK(image.pixels[0] == doctest::Approx(40));
    CHECK(image.pixels[5] == 0);
    spec.type = PNG_COLOR_TYPE_GRAY_ALPHA;
    spec.depth = 16;
    image = decode_image(make_png(spec, {0x80, 0x00, 0xff, 0xff, 0x10, 0x01, 0x7f, 0xff}), "a.png");
    CHECK(image.maximum == 65535);
    CHECK(image.pixels[0] == 32768);
    CHECK(image.pixels[1] == doctest::Approx(0x1001 * (32767.0 / 65535)));

    spec.type = PNG_COLOR_TYPE_PALETTE;
    spec.depth = 8;
    spec.palette = {{0, 0, 0}, {90, 90, 90}, {0, 255, 0}};
    png = make_png(spec, {2, 1});
    image = decode_image(png, "a.png");
    CHECK(image.pixels[0] == doctest::Approx(0.587 * 255));
    CHECK(image.pixels[1] == doctest::Approx(90));
    spec.transparency = {255, 51, 255};
    CHECK(decode_image(make_png(spec, {2, 1}), "a.png").pixels[1] == doctest::Approx(18));

    const TemporaryFolder folder;
    write_bytes(folder.path() + "/label.png", png);
    CHECK(read_label_image(folder.path() + "/label.png").pixels == std::vector<float>{2, 1});
}

TEST_CASE("image: JPEG gray and colour") {
    std::vector<unsigned char> gray(24 * 16), colour(24 * 16 * 3);
    for (std::size_t y = 0; y < 16; ++y)
        for (std::size_t x = 0; x < 24; ++x) {
            gray[y * 24 + x] = static_cast<unsigned char>(5 * x + 4 * y);
            colour[(y * 24 + x) * 3] = 200;
            colour[(y * 24 + x) * 3 + 1] = static_cast<unsigned char>(4 * x);
            colour[(y * 24 + x) * 3 + 2] = 30;
        }
    Image image = decode_image(make_jpeg(24, 16, gray), "a.jpg");
    CHECK(image.width == 24);
    CHECK(image.height == 16);
    for (std::size_t i = 0; i < gray.size(); ++i) CHECK(std::abs(image.pixels[i] - gray[i]) <= 2);
    image = decode_image(make_jpeg(24, 16, colour), "a.jpg");
    for (std::size_t i = 0; i < gray.size(); ++i)
        CHECK(std::abs(image.pixels[i] - (0.299 * 200 + 0.587 * colour[3 * i + 1] + 0.114 * 30)) <= 4);
    image = decode_image(make_jpeg(24, 16, colour), "a.jpg", 3);
    CHECK(image.channels == 3);
    CHECK(std::abs(image.pixels[0] - 200) <= 8);
    CHECK(std::abs(image.pixels[2] - 30) <= 8);
}

TEST_CASE("image: damaged files are refused with name and reason") {
    PngSpec spec;
    spec.width = 40;
    spec.height = 30;
    std::vector<unsigned char> rows(1200);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<unsigned char>(i * i);
    const std::string png = make_png(spec, rows), jpeg = make_jpeg(40, 30, rows);
    const auto refused = [](const std::string& bytes) {
        const std::string sentence = data_error([&] { (void)decode_image(bytes, "scan.png"); });
        return sentence.find("scan.png") != std::string::npos;
    };
    CHECK(decode_image(png, "scan.png").pixels.size() == 1200);
    CHECK(refused(""));
    CHECK(refused("some text"));
    for (const std::size_t size : {8u, 20u, 33u, 200u}) CHECK(refused(png.substr(0, size)));
    CHECK(refused(png.substr(0, png.size() - 20)));
    for (const std::size_t size : {3u, 20u, 300u}) CHECK(refused(jpeg.substr(0, size)));
    CHECK(refused(jpeg.substr(0, jpeg.size() - 60)));
    std::string wrong = png;
    wrong[60] ^= 1;  // in IDAT: the checksum no longer fits
    CHECK(refused(wrong));
    // A header that promises 60,000 x 60,000 pixels is refused before memory is asked for.
    spec.width = 60000;
    spec.height = 1;
    std::string vast = make_png(spec, std::vector<unsigned char>(60000));
    vast[22] = static_cast<char>(0xea);
    vast[23] = 0x60;
    CHECK(refused(vast));
    RandomStream random({3, 0, 0, Purpose::test, 0});
    for (int round = 0; round < 300; ++round) {
        std::string bytes = round % 2 ? png : jpeg;
        for (int flip = 0; flip < 4; ++flip)
            bytes[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(bytes.size())))] ^=
                static_cast<char>(1 << random.below(8));
        try {
            (void)decode_image(bytes, "scan");
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::data);
        }
    }
}

TEST_CASE("image: what is encoded is decoded") {
    std::vector<unsigned char> rgb(7 * 4 * 3);
    for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<unsigned char>(i * 3);
    const std::string png = encode_png(7, 4, rgb.data());
    CHECK(is_png(png));
    CHECK_FALSE(is_jpeg(png));
    CHECK(png == encode_png(7, 4, rgb.data()));
    const Image image = decode_image(png, "x", 3);
    CHECK(image.width == 7);
    CHECK((image.pixels == std::vector<float>(rgb.begin(), rgb.end())));
}
