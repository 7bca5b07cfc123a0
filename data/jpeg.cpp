#include <csetjmp>
#include <cstdio>
#include <cstring>

// jpeglib.h needs FILE and size_t from above.
#include <jpeglib.h>
// Message codes.
#include <jerror.h>

#include "core/check.h"
#include "data/image_raw.h"

namespace cover {

namespace {

// Plain data only: a jump skips no destructor.
struct Decoder {
    jpeg_decompress_struct jpeg{};
    jpeg_error_mgr errors{};
    std::jmp_buf jump;
    jpeg_progress_mgr progress{};
    char message[JMSG_LENGTH_MAX] = "unknown fault";
    bool damaged = false;  // libjpeg went on with made-up pixels
};

[[noreturn]] void on_error(j_common_ptr jpeg) {
    auto* decoder = static_cast<Decoder*>(jpeg->client_data);
    jpeg->err->format_message(jpeg, decoder->message);
    std::longjmp(decoder->jump, 1);
}

void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0) return;
    auto* decoder = static_cast<Decoder*>(jpeg->client_data);
    const int code = jpeg->err->msg_code;
    // These do not touch the picture; all other warnings mean that a part of it is missing.
    if (code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_BOGUS_PROGRESSION ||
        code == JWRN_JFIF_MAJOR || code == JWRN_TOO_MUCH_DATA)
        return;
    if (!decoder->damaged) jpeg->err->format_message(jpeg, decoder->message);
    decoder->damaged = true;
}

// A few bytes per scan make libjpeg go over the whole picture again: a hostile file could keep it busy for hours.
// Encoders write about ten scans.
void on_progress(j_common_ptr jpeg) {
    constexpr int most_scans = 200;
    if (!jpeg->is_decompressor || reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= most_scans) return;
    auto* decoder = static_cast<Decoder*>(jpeg->client_data);
    std::strncpy(decoder->message, "more than 200 scans", sizeof decoder->message - 1);
    std::longjmp(decoder->jump, 1);
}

bool read_header(Decoder* d, std::string_view bytes, bool gray) {
    if (setjmp(d->jump)) return false;
    jpeg_mem_src(&d->jpeg, reinterpret_cast<const unsigned char*>(bytes.data()),
                 static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&d->jpeg, TRUE);
    const J_COLOR_SPACE space = d->jpeg.jpeg_color_space;
    const bool four = space == JCS_CMYK || space == JCS_YCCK;
    const bool luminance = space == JCS_GRAYSCALE || (space == JCS_YCbCr && gray);
    d->jpeg.out_color_space = four ? JCS_CMYK : luminance ? JCS_GRAYSCALE : JCS_RGB;
    d->jpeg.dct_method = JDCT_ISLOW;
    jpeg_calc_output_dimensions(&d->jpeg);
    return true;
}

bool read_rows(Decoder* d, unsigned char* samples, std::size_t row_bytes) {
    if (setjmp(d->jump)) return false;
    jpeg_start_decompress(&d->jpeg);
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        JSAMPROW row = samples + static_cast<std::size_t>(d->jpeg.output_scanline) * row_bytes;
        jpeg_read_scanlines(&d->jpeg, &row, 1);
    }
    jpeg_finish_decompress(&d->jpeg);
    return true;
}

// Adobe's CMYK is stored inverted: what is left of each colour after black.
void cmyk_to_rgb(RawImage& image, bool inverted) {
    const std::size_t pixels = image.samples.size() / 4;
    std::vector<unsigned char> rgb(pixels * 3);
    for (std::size_t p = 0; p < pixels; ++p)
        for (std::size_t c = 0; c < 3; ++c) {
            const int ink = image.samples[4 * p + c], black = image.samples[4 * p + 3];
            const int left = inverted ? ink * black : (255 - ink) * (255 - black);
            rgb[3 * p + c] = static_cast<unsigned char>((left + 127) / 255);
        }
    image.samples = std::move(rgb);
    image.channels = 3;
}

struct Guard {
    Decoder& decoder;
    ~Guard() { jpeg_destroy_decompress(&decoder.jpeg); }
};

bool create(Decoder* d) {
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->jpeg.client_data = d;
    if (setjmp(d->jump)) return false;
    jpeg_create_decompress(&d->jpeg);
    d->jpeg.mem->max_memory_to_use = 1L << 30;
    d->progress.progress_monitor = on_progress;
    d->jpeg.progress = &d->progress;
    return true;
}

}  // namespace

RawImage decode_jpeg(std::string_view bytes, const std::string& name, bool gray) {
    Decoder decoder;
    const Guard guard{decoder};
    require(create(&decoder), ErrorKind::device, "[image] ", name, ": no memory to decode a JPEG");
    require(read_header(&decoder, bytes, gray), ErrorKind::data, "[image] ", name, ": damaged JPEG (", decoder.message,
            ")");
    RawImage out;
    out.width = decoder.jpeg.output_width;
    out.height = decoder.jpeg.output_height;
    out.channels = decoder.jpeg.output_components;
    out.colour = out.channels > 1;
    // A Huffman code takes a bit at least for each block of 64 samples; arithmetic coding may take less.
    check_size(name, out.width, out.height, out.channels, static_cast<std::int64_t>(bytes.size()),
               decoder.jpeg.arith_code ? 16384 : 2048);
    const std::size_t row_bytes = static_cast<std::size_t>(out.width) * static_cast<std::size_t>(out.channels);
    out.samples.resize(row_bytes * static_cast<std::size_t>(out.height));
    require(read_rows(&decoder, out.samples.data(), row_bytes) && !decoder.damaged, ErrorKind::data, "[image] ", name,
            ": damaged JPEG (", decoder.message, ")");
    if (out.channels == 4) cmyk_to_rgb(out, decoder.jpeg.saw_Adobe_marker);
    return out;
}

}  // namespace cover
