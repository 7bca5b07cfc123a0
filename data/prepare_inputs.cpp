#include "data/prepare_inputs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "core/check.h"
#include "core/file.h"
#include "data/image.h"

namespace cover {

namespace fs = std::filesystem;

namespace {

using CsvRow = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t most_fields = std::size_t{1} << 22;

std::string lower(std::string s) {
    std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return s;
}

bool ends_with(const std::string& s, const std::string& end) {
    return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0;
}

InputKind kind_by_name(const std::string& path) {
    const std::string name = lower(fs::path(path).filename().string());
    for (const char* end : {".png", ".jpg", ".jpeg"})
        if (ends_with(name, end)) return InputKind::picture;
    for (const char* end : {".h5", ".hdf5", ".hdf"})
        if (ends_with(name, end)) return InputKind::hdf5;
    for (const char* end : {".nii", ".nii.gz", ".hdr"})
        if (ends_with(name, end)) return InputKind::volume;
    return InputKind::unknown;
}

std::string value_of(const CsvRow& row, std::initializer_list<const char*> names) {
    for (const char* name : names)
        for (const auto& [column, value] : row)
            if (column == name) return value;
    return {};
}

// Files below a folder that may be inputs, in the folder's own notation.
std::vector<std::string> files_below(const fs::path& folder) {
    std::vector<std::string> out;
    std::error_code error;
    fs::recursive_directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
    for (; !error && it != end; it.increment(error))
        if (it->is_regular_file(error) && !is_hidden(it->path().string()) &&
            kind_by_name(it->path().string()) != InputKind::unknown)
            out.push_back(it->path().string());
    require(!error, ErrorKind::data, "[prepare] ", folder.string(), ": the folder cannot be read: ", error.message());
    return out;
}

void add_folder(const std::string& folder, const PrepareOptions& options, std::vector<InputFile>& out,
                std::vector<BadInput>& bad) {
    const fs::path root(folder);
    std::error_code error;
    const bool nested = fs::is_directory(root / "images", error);
    std::map<std::string, CsvRow> index;
    std::set<std::string> splits, wanted;
    const bool has_index = fs::is_regular_file(root / "index.csv", error);
    if (has_index)
        for (const CsvRow& row : read_csv((root / "index.csv").string())) {
            const std::string id = value_of(row, {"id"}), split = value_of(row, {"split"});
            if (id.empty()) continue;
            index[id] = row;
            splits.insert(split);
            if (split == options.split) wanted.insert(id);
        }
    if (!options.split.empty()) {
        require(has_index, ErrorKind::data, "[prepare] ", folder, ": --split ", options.split,
                " needs an index.csv with the columns id and split in this folder");
        std::string known;
        for (const std::string& s : splits) known += (known.empty() ? "" : ", ") + (s.empty() ? "(none)" : s);
        require(!wanted.empty(), ErrorKind::data, "[prepare] ", folder, ": no row of index.csv has the split ",
                options.split, "; there are: ", known);
    }
    for (const std::string& path : files_below(nested ? root / "images" : root)) {
        const std::string stem = stem_of(path);
        if (!options.split.empty() && wanted.erase(stem) == 0) continue;
        InputFile file{path, fs::path(path).lexically_relative(root).generic_string(), stem};
        if (const auto row = index.find(stem); row != index.end()) {
            const std::string subject = value_of(row->second, {"subject", "patient", "patient_id", "group"});
            if (!subject.empty()) file.subject = subject;
        }
        out.push_back(std::move(file));
    }
    if (!options.split.empty())
        for (const std::string& id : wanted)
            bad.push_back({(root / id).string(), text("[prepare] ", (root / id).string(),
                                                      ": is named by index.csv, but there is no such file")});
}

}  // namespace

bool is_hidden(const std::string& path) { return fs::path(path).filename().string().starts_with('.'); }

std::string stem_of(const std::string& path) {
    std::string name = fs::path(path).filename().string();
    if (ends_with(lower(name), ".nii.gz")) return name.substr(0, name.size() - 7);
    return fs::path(name).stem().string();
}

InputKind kind_of(const std::string& path) {
    const InputKind named = kind_by_name(path);
    if (named != InputKind::unknown) return named;
    std::ifstream in(path, std::ios::binary);
    std::string head(352, '\0');
    in.read(head.data(), static_cast<std::streamsize>(head.size()));
    head.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, in.gcount())));
    if (is_png(head) || is_jpeg(head)) return InputKind::picture;
    if (head.substr(0, 8) == std::string("\x89HDF\r\n\x1a\n", 8) || head.substr(0, 6) == "MATLAB")
        return InputKind::hdf5;
    const auto has = [&](std::size_t at, std::string_view mark) {
        return head.size() > at && head.substr(at, 3) == mark;
    };
    if (has(344, "n+1") || has(344, "ni1") || has(4, "n+2") || has(4, "ni2")) return InputKind::volume;
    return InputKind::unknown;
}

std::vector<CsvRow> read_csv(const std::string& path) {
    const std::string bytes = read_file(path, std::uint64_t{64} << 20);
    std::vector<std::vector<std::string>> lines;
    std::vector<std::string> fields(1);
    bool quoted = false;
    std::size_t field_count = 0;
    const auto end_line = [&] {
        if (fields.size() > 1 || !fields[0].empty()) lines.push_back(fields);
        fields.assign(1, "");
    };
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const char c = bytes[i];
        if (quoted) {
            if (c == '"' && i + 1 < bytes.size() && bytes[i + 1] == '"')
                fields.back() += bytes[++i];
            else if (c == '"')
                quoted = false;
            else
                fields.back() += c;
        } else if (c == '"') {
            quoted = true;
        } else if (c == ',') {
            fields.emplace_back();
            require(++field_count <= most_fields, ErrorKind::data, "[prepare] ", path, ": more than ", most_fields,
                    " fields; an index has a line per image and a few columns");
        } else if (c == '\n') {
            end_line();
            require(++field_count <= most_fields, ErrorKind::data, "[prepare] ", path, ": more than ", most_fields,
                    " fields; an index has a line per image and a few columns");
        } else if (c != '\r') {
            fields.back() += c;
        }
    }
    require(!quoted, ErrorKind::data, "[prepare] ", path,
            ": a quotation mark opens a field that never ends; mend the file");
    end_line();
    std::vector<CsvRow> out;
    for (std::size_t i = 1; i < lines.size(); ++i) {
        CsvRow row;
        for (std::size_t k = 0; k < std::min(lines[0].size(), lines[i].size()); ++k)
            row.emplace_back(lines[0][k], lines[i][k]);
        out.push_back(std::move(row));
    }
    return out;
}

std::vector<InputFile> find_inputs(const PrepareOptions& options, std::vector<BadInput>& bad) {
    std::vector<InputFile> out;
    for (const std::string& input : options.inputs) {
        std::error_code error;
        if (fs::is_directory(input, error))
            add_folder(input, options, out, bad);
        else if (fs::exists(input, error))
            out.push_back({input, fs::path(input).filename().string(), stem_of(input)});
        else
            bad.push_back({input, text("[prepare] ", input, ": there is no such file or folder")});
    }
    std::stable_sort(out.begin(), out.end(), [](const InputFile& a, const InputFile& b) { return a.path < b.path; });
    out.erase(
        std::unique(out.begin(), out.end(), [](const InputFile& a, const InputFile& b) { return a.path == b.path; }),
        out.end());
    return out;
}

}  // namespace cover
