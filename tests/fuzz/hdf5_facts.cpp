// What the child process tells about an HDF5 file (lines of JSON up to a zero byte), and the file's bytes behind it:
// the parent believes neither.
#include <algorithm>
#include <set>

#include "data/h5_facts.h"
#include "tests/fuzz/targets.h"

namespace cover::fuzz {

void hdf5_facts(const unsigned char* data, std::size_t size) {
    const unsigned char* end = data + size;
    const unsigned char* zero = std::find(data, end, static_cast<unsigned char>(0));
    const std::string answer(reinterpret_cast<const char*>(data), static_cast<std::size_t>(zero - data));
    const unsigned char* bytes = zero == end ? end : zero + 1;
    const std::string path = as_file(bytes, static_cast<std::size_t>(end - bytes));
    only(ErrorKind::data, [&] {
        const H5File file = open_h5_with_answer(path, answer);
        for (const auto& entry : file.datasets()) {
            const H5Dataset& d = entry.second;
            if (!d.unreadable.empty()) continue;
            if (d.type.kind == H5Kind::string) {
                only(ErrorKind::data, [&] { (void)file.read_strings(d); });
                continue;
            }
            only(ErrorKind::data, [&] { (void)file.read_doubles(d); });
            if (!d.row_is_one_read() || d.shape[0] == 0) continue;
            std::vector<unsigned char> row;
            for (const std::int64_t i : std::set<std::int64_t>{0, d.shape[0] / 2, d.shape[0] - 1})
                only(ErrorKind::data, [&] {
                    // As a patch file does it: first whether the row can be there at all.
                    file.check_held(d, d.row_count() * d.type.size);
                    row.resize(static_cast<std::size_t>(d.row_count() * d.type.size));
                    file.read_row(d, i, row.data());
                });
        }
        for (const auto& group : file.groups())
            for (const auto& attribute : group.second) {
                only(ErrorKind::data, [&] { (void)file.numbers(group.first, attribute.first); });
                only(ErrorKind::data, [&] { (void)file.string(group.first, attribute.first); });
            }
    });
}

}  // namespace cover::fuzz
