#include <png.h>

#include <csetjmp>
#include <cstring>

#include "core/check.h"
#include "data/image.h"
#include "data/image_raw.h"

namespace cover {

namespace {

// Everything that libpng touches while it may jump: plain data only, so that a jump skips no destructor.
struct Decoder {
    png_structp png = nullptr;
    png_infop info = nullptr;
    const unsigned char* data = nullptr;
    std::size_t left = 0;
    char message[200] = "unknown fault";
    bool as_stored = false;

    png_uint_32 width = 0, height = 0;
    int channels = 0, depth = 0;
    bool colour = false;
    std::size_t row_bytes = 0;
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
    auto* decoder = static_cast<Decoder*>(png_get_error_ptr(png));
    std::strncpy(decoder->message, message, sizeof decoder->message - 1);
    png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, std::size_t bytes) {
    auto* decoder = static_cast<Decoder*>(png_get_io_ptr(png));
    if (bytes > decoder->left) png_error(png, "the file ends early");
    std::memcpy(out, decoder->data, bytes);
    decoder->data += bytes;
    decoder->left -= bytes;
}

// True when the header was read and the transformations are set.
bool read_header(Decoder* d) {
    if (setjmp(png_jmpbuf(d->png))) return false;
    png_set_read_fn(d->png, d, on_read);
    png_set_user_limits(d->png, 1u << 20, 1u << 20);
    png_set_chunk_cache_max(d->png, 128);
    png_set_chunk_malloc_max(d->png, std::size_t{8} << 20);
    png_read_info(d->png, d->info);
    d->width = png_get_image_width(d->png, d->info);
    d->height = png_get_image_height(d->png, d->info);
    const int type = png_get_color_type(d->png, d->info);
    const int depth = png_get_bit_depth(d->png, d->info);
    if (d->as_stored) {
        if (depth < 8) png_set_packing(d->png);
    } else {
        if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(d->png);
        if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(d->png);
        if (png_get_valid(d->png, d->info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(d->png);
    }
    png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    d->channels = png_get_channels(d->png, d->info);
    d->depth = png_get_bit_depth(d->png, d->info);
    d->colour = (type & PNG_COLOR_MASK_COLOR) != 0 && !(d->as_stored && type == PNG_COLOR_TYPE_PALETTE);
    d->row_bytes = png_get_rowbytes(d->png, d->info);
    return true;
}

bool read_rows(Decoder* d, png_bytepp rows) {
    if (setjmp(png_jmpbuf(d->png))) return false;
    png_read_image(d->png, rows);
    png_read_end(d->png, nullptr);
    return true;
}

struct Guard {
    Decoder& decoder;
    ~Guard() { png_destroy_read_struct(&decoder.png, &decoder.info, nullptr); }
};

struct Encoder {
    png_structp png = nullptr;
    png_infop info = nullptr;
    std::string* out = nullptr;
};

[[noreturn]] void on_encode_error(png_structp png, png_const_charp) { png_longjmp(png, 1); }

void on_write(png_structp png, png_bytep data, std::size_t bytes) {
    static_cast<Encoder*>(png_get_io_ptr(png))->out->append(reinterpret_cast<const char*>(data), bytes);
}

void on_flush(png_structp) {}

bool write_rows(Encoder* e, png_uint_32 width, png_uint_32 height, png_bytepp rows) {
    if (setjmp(png_jmpbuf(e->png))) return false;
    png_set_write_fn(e->png, e, on_write, on_flush);
    png_set_IHDR(e->png, e->info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(e->png, 6);
    png_write_info(e->png, e->info);
    png_write_image(e->png, rows);
    png_write_end(e->png, nullptr);
    return true;
}

}  // namespace

RawImage decode_png(std::string_view bytes, const std::string& name, bool as_stored) {
    Decoder decoder;
    decoder.data = reinterpret_cast<const unsigned char*>(bytes.data());
    decoder.left = bytes.size();
    decoder.as_stored = as_stored;
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
    require(decoder.png, ErrorKind::device, "[image] ", name, ": no memory to decode a PNG");
    const Guard guard{decoder};
    decoder.info = png_create_info_struct(decoder.png);
    require(decoder.info, ErrorKind::device, "[image] ", name, ": no memory to decode a PNG");
    require(read_header(&decoder), ErrorKind::data, "[image] ", name, ": damaged PNG (", decoder.message, ")");

    RawImage out;
    out.width = decoder.width;
    out.height = decoder.height;
    out.channels = decoder.channels;
    out.bytes_per_sample = decoder.depth == 16 ? 2 : 1;
    out.colour = decoder.colour;
    // Deflate reaches 1032 to 1, and a byte may hold eight samples that a palette turns into four each.
    check_size(name, out.width, out.height, out.channels, static_cast<std::int64_t>(bytes.size()), 1040 * 8 * 4);
    require(decoder.row_bytes ==
                static_cast<std::size_t>(out.width) * static_cast<std::size_t>(out.channels * out.bytes_per_sample),
            ErrorKind::internal, "[image] ", name, ": rows of ", decoder.row_bytes, " bytes");
    out.samples.resize(decoder.row_bytes * static_cast<std::size_t>(out.height));
    std::vector<png_bytep> rows;
    for (std::size_t y = 0; y < static_cast<std::size_t>(out.height); ++y)
        rows.push_back(out.samples.data() + y * decoder.row_bytes);
    require(read_rows(&decoder, rows.data()), ErrorKind::data, "[image] ", name, ": damaged PNG (", decoder.message,
            ")");
    return out;
}

std::string encode_png(std::int64_t width, std::int64_t height, const unsigned char* rgb) {
    require(width > 0 && height > 0 && width < (1 << 20) && height < (1 << 20), ErrorKind::internal,
            "[image] a picture of ", width, " x ", height);
    std::string out;
    Encoder encoder;
    encoder.out = &out;
    encoder.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, on_encode_error, on_warning);
    require(encoder.png, ErrorKind::device, "[image] no memory to write a PNG");
    encoder.info = png_create_info_struct(encoder.png);
    std::vector<png_bytep> rows;
    for (std::int64_t y = 0; y < height; ++y) rows.push_back(const_cast<png_bytep>(rgb + y * width * 3));
    const bool done = encoder.info && write_rows(&encoder, static_cast<png_uint_32>(width),
                                                 static_cast<png_uint_32>(height), rows.data());
    png_destroy_write_struct(&encoder.png, &encoder.info);
    require(done, ErrorKind::internal, "[image] a picture of ", width, " x ", height, " could not be encoded");
    return out;
}

}  // namespace cover
