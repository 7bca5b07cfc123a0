#include "core/nearest.h"

#include <algorithm>

namespace cover {

int edit_distance(std::string_view a, std::string_view b) {
    std::vector<int> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        next[0] = static_cast<int>(i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                next[j] = std::min(next[j], before[j - 2] + 1);
        }
        std::swap(before, row);
        std::swap(row, next);
    }
    return row[b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& names) {
    const std::string* best = nullptr;
    int best_distance = 0;
    for (const auto& name : names) {
        const int distance = edit_distance(word, name);
        if (2 * distance > static_cast<int>(std::max(word.size(), name.size()))) continue;
        if (!best || distance < best_distance) {
            best = &name;
            best_distance = distance;
        }
    }
    return best ? *best : std::string();
}

std::string nearest_hint(std::string_view word, const std::vector<std::string>& names) {
    const auto name = nearest(word, names);
    return name.empty() ? std::string() : "; the nearest is '" + name + "'";
}

}  // namespace cover
