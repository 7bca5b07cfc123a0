// "Did you mean ...": the name closest to a mistyped one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cover {

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
int edit_distance(std::string_view a, std::string_view b);

// The nearest of `names`, the first among equals; empty when `names` is or when nothing is near (more than half of the
// longer word would have to change).
std::string nearest(std::string_view word, const std::vector<std::string>& names);

// "; the nearest is 'batch'" or "".
std::string nearest_hint(std::string_view word, const std::vector<std::string>& names);

}  // namespace cover
