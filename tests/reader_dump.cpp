#include "tests/reader_dump.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/file.h"
#include "data/image.h"
#include "data/nifti.h"
#include "data/patches.h"
#include "data/prepare_inputs.h"

namespace cover::test {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Values in the order that the line's shape says, last axis fastest.
std::vector<float> read_values(const std::string& path, InputKind kind, json& line) {
    if (kind == InputKind::volume) {
        NiftiReader reader = NiftiReader::open(path);
        const NiftiHeader& h = reader.header();
        std::vector<float> values;
        for (std::int64_t v = 0; v < h.volumes; ++v) {
            const std::vector<float> one = reader.next();
            values.insert(values.end(), one.begin(), one.end());
        }
        line["shape"] = {h.volumes, h.shape[2], h.shape[1], h.shape[0]};
        line["affine"] = h.affine.m;
        return values;
    }
    if (kind == InputKind::picture) {
        const Image image = read_image(path, 3);
        line["shape"] = {image.height, image.width, 3};
        line["maximum"] = image.maximum;
        return image.pixels;
    }
    const PatchFile file =
        PatchFile::open({path}, {.sequential = true, .stored_units = true, .allow_non_finite = true});
    const Grid g = file.grid();
    line["shape"] = {file.sample_count(), g.d, g.h, g.w, file.channels()};
    const std::int64_t count = g.pixels() * file.channels();
    std::vector<float> values(static_cast<std::size_t>(file.sample_count() * count));
    for (std::int64_t i = 0; i < file.sample_count(); ++i) file.read_sample(i, values.data() + i * count);
    return values;
}

}  // namespace

int dump_readers(const std::vector<std::string>& folders, const std::string& out) {
    std::vector<std::string> paths;
    for (const std::string& folder : folders)
        for (const auto& entry : fs::recursive_directory_iterator(folder))
            if (entry.is_regular_file()) paths.push_back(entry.path().string());
    std::sort(paths.begin(), paths.end());
    static const char* const names[] = {"picture", "hdf5", "volume"};
    std::string index;
    int lines = 0;
    for (const std::string& path : paths) {
        const InputKind kind = kind_of(path);
        if (kind == InputKind::unknown) continue;
        json line = {{"path", path}, {"kind", names[static_cast<int>(kind)]}};
        try {
            const std::vector<float> values = read_values(path, kind, line);
            const std::string name = std::to_string(lines) + ".f32";
            write_file(out + "/" + name, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
            line["values"] = name;
        } catch (const Error& error) {
            line["refused"] = error.what();
        }
        index += line.dump() + "\n";
        ++lines;
    }
    write_file(out + "/index.jsonl", index);
    return lines;
}

}  // namespace cover::test
