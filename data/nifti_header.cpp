#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/check.h"
#include "data/nifti.h"

namespace cover {

namespace {

static_assert(std::endian::native == std::endian::little);

// Fields of a header by their offset, in the file's byte order.
class Fields {
public:
    Fields(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

    template <class T>
    T at(std::size_t offset) const {
        unsigned char raw[sizeof(T)];
        std::memcpy(raw, bytes_.data() + offset, sizeof raw);
        if (big_endian_) std::reverse(raw, raw + sizeof raw);
        T value;
        std::memcpy(&value, raw, sizeof raw);
        return value;
    }

private:
    std::string_view bytes_;
    bool big_endian_;
};

// What both versions say, in wide types.
struct RawHeader {
    std::array<std::int64_t, 8> dim{};
    int datatype = 0;
    double data_offset = 0;
    double slope = 0, intercept = 0;
    NiftiHeader out;
};

std::string trimmed(std::string_view text) { return std::string(text.substr(0, text.find('\0'))); }

RawHeader read_version_1(const Fields& f, std::string_view bytes) {
    RawHeader raw;
    for (std::size_t i = 0; i < 8; ++i) {
        raw.dim[i] = f.at<std::int16_t>(40 + 2 * i);
        raw.out.pixdim[i] = f.at<float>(76 + 4 * i);
    }
    raw.datatype = f.at<std::int16_t>(70);
    raw.data_offset = f.at<float>(108);
    raw.slope = f.at<float>(112);
    raw.intercept = f.at<float>(116);
    raw.out.units = f.at<std::uint8_t>(123);
    raw.out.description = trimmed(bytes.substr(148, 80));
    raw.out.qform_code = f.at<std::int16_t>(252);
    raw.out.sform_code = f.at<std::int16_t>(254);
    for (std::size_t i = 0; i < 6; ++i) raw.out.quaternion[i] = f.at<float>(256 + 4 * i);
    for (std::size_t i = 0; i < 12; ++i) raw.out.srow[i] = f.at<float>(280 + 4 * i);
    return raw;
}

RawHeader read_version_2(const Fields& f, std::string_view bytes) {
    RawHeader raw;
    for (std::size_t i = 0; i < 8; ++i) {
        raw.dim[i] = f.at<std::int64_t>(16 + 8 * i);
        raw.out.pixdim[i] = f.at<double>(104 + 8 * i);
    }
    raw.datatype = f.at<std::int16_t>(12);
    raw.data_offset = static_cast<double>(f.at<std::int64_t>(168));
    raw.slope = f.at<double>(176);
    raw.intercept = f.at<double>(184);
    raw.out.description = trimmed(bytes.substr(240, 80));
    raw.out.qform_code = f.at<std::int32_t>(344);
    raw.out.sform_code = f.at<std::int32_t>(348);
    for (std::size_t i = 0; i < 6; ++i) raw.out.quaternion[i] = f.at<double>(352 + 8 * i);
    for (std::size_t i = 0; i < 12; ++i) raw.out.srow[i] = f.at<double>(400 + 8 * i);
    raw.out.units = f.at<std::int32_t>(500) & 0xff;
    return raw;
}

NiftiType type_of(int code, const std::string& name) {
    for (const NiftiType type :
         {NiftiType::uint8, NiftiType::int16, NiftiType::int32, NiftiType::float32, NiftiType::float64, NiftiType::int8,
          NiftiType::uint16, NiftiType::uint32, NiftiType::int64, NiftiType::uint64})
        if (static_cast<int>(type) == code) return type;
    const char* what = code == 1      ? "single bits"
                       : code == 32   ? "complex numbers (complex64)"
                       : code == 1792 ? "complex numbers (complex128)"
                       : code == 2048 ? "complex numbers (complex256)"
                       : code == 1536 ? "128-bit floats"
                       : code == 128  ? "colours (RGB24)"
                       : code == 2304 ? "colours (RGBA32)"
                                      : nullptr;
    fail(ErrorKind::data,
         text("[nifti] ", name, ": its voxels are ", what ? what : text("of the unknown datatype ", code),
              "; read are integers of 8 to 64 bits, float32 and float64: convert it to one of them"));
}

void check_shape(const RawHeader& raw, NiftiHeader& out, const std::string& name) {
    const std::int64_t rank = raw.dim[0];
    require(rank >= 1 && rank <= 7, ErrorKind::data, "[nifti] ", name, ": its header says ", rank,
            " axes; there are 1 to 7: the file is damaged");
    for (std::size_t axis = 1; axis <= static_cast<std::size_t>(rank); ++axis) {
        const std::int64_t side = raw.dim[axis];
        require(side >= 1, ErrorKind::data, "[nifti] ", name, ": axis ", axis, " of its header has ", side,
                " elements; the file is damaged");
        std::int64_t& target = axis <= 3 ? out.shape[axis - 1] : out.volumes;
        require(!__builtin_mul_overflow(target, side, &target), ErrorKind::data, "[nifti] ", name,
                ": its header says more elements than can be counted; the file is damaged");
    }
    std::int64_t voxels = 1;
    for (const std::int64_t side : out.shape)
        require(!__builtin_mul_overflow(voxels, side, &voxels) && voxels <= nifti_max_voxels, ErrorKind::data,
                "[nifti] ", name, ": a volume of ", out.shape[0], " x ", out.shape[1], " x ", out.shape[2],
                " voxels; at most 2^30 are read");
}

Affine qform(const NiftiHeader& h, const std::string& name) {
    double b = h.quaternion[0], c = h.quaternion[1], d = h.quaternion[2];
    double rest = 1 - (b * b + c * c + d * d);
    require(std::isfinite(rest), ErrorKind::data, "[nifti] ", name,
            ": the quaternion of its qform is not finite; set qform_code to 0 or repair the header");
    // A unit quaternion (a, b, c, d); by rounding, or by a half turn, nothing may be left for a.
    double a = 0;
    if (rest < 1e-7) {
        const double length = std::sqrt(b * b + c * c + d * d);
        b /= length;
        c /= length;
        d /= length;
    } else {
        a = std::sqrt(rest);
    }
    const double turn[3][3] = {{a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)},
                               {2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)},
                               {2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c}};
    const double side = h.pixdim[0] < 0 ? -1 : 1;
    Affine out;
    for (int row = 0; row < 3; ++row) {
        for (int column = 0; column < 3; ++column) {
            const double step = std::abs(h.pixdim[static_cast<std::size_t>(column) + 1]);
            out(row, column) = turn[row][column] * (step > 0 ? step : 1) * (column == 2 ? side : 1);
        }
        out(row, 3) = h.quaternion[static_cast<std::size_t>(row) + 3];
    }
    return out;
}

Affine find_affine(const NiftiHeader& h, const std::string& name) {
    Affine out;
    const char* origin = "pixdim";
    if (h.sform_code > 0) {
        origin = "sform";
        for (std::size_t i = 0; i < 12; ++i) out.m[i] = h.srow[i];
    } else if (h.qform_code > 0) {
        origin = "qform";
        out = qform(h, name);
    } else {
        for (int axis = 0; axis < 3; ++axis) {
            const double step = std::abs(h.pixdim[static_cast<std::size_t>(axis) + 1]);
            out(axis, axis) = step == 0 ? 1 : step;
        }
    }
    const int unit = h.units & 7;
    const double millimetres = unit == 1 ? 1000 : unit == 3 ? 0.001 : 1;
    for (std::size_t i = 0; i < 12; ++i) out.m[i] *= millimetres;
    require(out.valid(), ErrorKind::data, "[nifti] ", name, ": the affine of its ", origin,
            " has no inverse or holds a value that is not finite, so that left and right are not known; repair the "
            "header");
    return out;
}

}  // namespace

const char* name_of(NiftiType type) {
    switch (type) {
    case NiftiType::uint8: return "uint8";
    case NiftiType::int16: return "int16";
    case NiftiType::int32: return "int32";
    case NiftiType::float32: return "float32";
    case NiftiType::float64: return "float64";
    case NiftiType::rgb24: return "rgb24";
    case NiftiType::int8: return "int8";
    case NiftiType::uint16: return "uint16";
    case NiftiType::uint32: return "uint32";
    case NiftiType::int64: return "int64";
    case NiftiType::uint64: return "uint64";
    }
    return "unknown";
}

std::int64_t size_of(NiftiType type) {
    switch (type) {
    case NiftiType::uint8:
    case NiftiType::int8: return 1;
    case NiftiType::int16:
    case NiftiType::uint16: return 2;
    case NiftiType::rgb24: return 3;
    case NiftiType::int32:
    case NiftiType::uint32:
    case NiftiType::float32: return 4;
    case NiftiType::float64:
    case NiftiType::int64:
    case NiftiType::uint64: return 8;
    }
    return 0;
}

std::array<double, 2> NiftiHeader::type_range() const {
    if (type == NiftiType::float32 || type == NiftiType::float64) return {0, 1};
    const bool is_signed =
        type == NiftiType::int8 || type == NiftiType::int16 || type == NiftiType::int32 || type == NiftiType::int64;
    const int bits = static_cast<int>(8 * size_of(type));
    const double low = is_signed ? -std::ldexp(1.0, bits - 1) : 0.0;
    const double high = std::ldexp(1.0, is_signed ? bits - 1 : bits) - 1.0;
    const double a = low * slope + intercept, b = high * slope + intercept;
    return {std::min(a, b), std::max(a, b)};
}

NiftiHeader parse_nifti_header(std::string_view bytes, const std::string& name) {
    require(bytes.size() >= 348, ErrorKind::data, "[nifti] ", name, ": holds ", bytes.size(),
            " bytes where a NIfTI header has 348; it was cut short, copy or make it again");
    const bool big_endian = [&] {
        const std::int32_t size = Fields(bytes, true).at<std::int32_t>(0);
        return size == 348 || size == 540;
    }();
    const Fields f(bytes, big_endian);
    const std::int32_t size = f.at<std::int32_t>(0);
    require(size == 348 || size == 540, ErrorKind::data, "[nifti] ", name,
            ": is no NIfTI file (its header begins with ", size, " instead of 348 or 540)");
    const std::string_view magic = size == 348 ? bytes.substr(344, 4) : bytes.substr(4, 4);
    const char digit = size == 348 ? '1' : '2';
    require(magic[0] == 'n' && (magic[1] == '+' || magic[1] == 'i') && magic[2] == digit && magic[3] == '\0',
            ErrorKind::data, "[nifti] ", name,
            size == 348 ? ": has an Analyze header or a damaged one" : ": is damaged", " (the mark \"n+",
            std::string(1, digit), "\" is missing); convert it to NIfTI in one file");
    require(magic[1] == '+', ErrorKind::data, "[nifti] ", name,
            ": is the header of a .hdr and .img pair; convert it to one .nii file, as in nibabel: "
            "nibabel.save(nibabel.load('x.hdr'), 'x.nii.gz')");
    if (size == 540) {
        require(bytes.size() >= 540, ErrorKind::data, "[nifti] ", name, ": holds ", bytes.size(),
                " bytes where a NIfTI-2 header has 540; it was cut short, copy or make it again");
        require(bytes.substr(8, 4) == "\r\n\x1a\n", ErrorKind::data, "[nifti] ", name,
                ": its line ends were changed in transit; copy it as a binary file");
    }
    const RawHeader raw = size == 348 ? read_version_1(f, bytes) : read_version_2(f, bytes);
    NiftiHeader out = raw.out;
    out.version = size == 348 ? 1 : 2;
    out.big_endian = big_endian;
    out.type = type_of(raw.datatype, name);
    check_shape(raw, out, name);
    // A scale of 0 or none at all means: as stored.
    if (std::isfinite(raw.slope) && raw.slope != 0) {
        require(std::isfinite(raw.intercept), ErrorKind::data, "[nifti] ", name, ": has the slope ", raw.slope,
                " but no finite intercept; repair the header");
        out.slope = raw.slope;
        out.intercept = raw.intercept;
    }
    const double least = size == 348 ? 352 : 544;
    const double offset = raw.data_offset == 0 ? least : raw.data_offset;
    require(offset >= least && offset < 0x1p53 && offset == std::floor(offset), ErrorKind::data, "[nifti] ", name,
            ": its voxels are said to begin at byte ", offset,
            ", inside of the header or nowhere; the file is damaged");
    out.data_offset = static_cast<std::int64_t>(offset);
    out.affine = find_affine(out, name);
    return out;
}

NiftiHeader make_nifti_header(const std::array<std::int64_t, 3>& shape, const Affine& affine) {
    require(affine.valid(), ErrorKind::data, "[nifti] an affine without an inverse is not written");
    NiftiHeader out;
    out.shape = shape;
    out.affine = affine;
    out.sform_code = 2;  // aligned to another file
    std::copy_n(affine.m.begin(), 12, out.srow.begin());
    const Point spacing = affine.spacing();
    for (std::size_t axis = 0; axis < 3; ++axis) out.pixdim[axis + 1] = spacing[axis];
    return out;
}

}  // namespace cover
