// What this program is and how it was built.
#pragma once

#include <string>

namespace cover::app {

std::string version();  // "0.1.0"
// "g++ 12.2.0, Release, linux x86_64": no time and no path, so that equal sources give equal programs.
std::string build_description();

}  // namespace cover::app
