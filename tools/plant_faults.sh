#!/bin/sh
# Shows that the tests can fail: builds the committed sources in a folder of its own, plants one fault at a time in a
# kernel, and prints what the tests say. Exit 0 when every fault turned them red and the untouched sources are green.
# Usage: tools/plant_faults.sh [FOLDER]
set -eu
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
mkdir -p "$folder/source"
git archive HEAD | tar -x -C "$folder/source"
cmake -S "$folder/source" -B "$folder/build" -G Ninja > "$folder/cmake.log"

# run FILTER: builds and runs; prints the last line of the tests.
run() {
    cmake --build "$folder/build" --target cover_tests > "$folder/build.log" 2>&1 || {
        tail -n 20 "$folder/build.log"
        exit 1
    }
    "$folder/build/tests/cover_tests" "-tc=$1" > "$folder/test.log" 2>&1 && status=0 || status=$?
    tail -n 1 "$folder/test.log"
    return $status
}

bad=0
# plant NAME FILE FROM TO FILTER: replaces the one line that holds FROM.
plant() {
    file=$folder/source/$2
    [ "$(grep -cF "$3" "$file")" = 1 ] || {
        echo "$2 no longer holds exactly once: $3"
        exit 1
    }
    cp "$file" "$folder/kept"
    FROM=$3 TO=$4 perl -pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/' "$file"
    if line=$(run "$5"); then
        verdict="NOT FOUND"
        bad=1
    else
        verdict="found"
    fi
    printf '| %s | `%s` | %s | %s |\n' "$1" "$2" "$line" "$verdict"
    grep -m 1 -oE 'element [0-9]+ .*(not finite|off by).*|relative 2-norm.*' "$folder/test.log" | cut -c1-150 | sed 's/^/    /' || true
    cp "$folder/kept" "$file"
}

ops='conv*,group_norm*,local_attention*'
if line=$(run "$ops"); then
    printf '| nothing planted | | %s | green |\n' "$line"
else
    printf '| nothing planted | | %s | RED |\n' "$line"
    bad=1
fi
plant 'a NaN in one element' kernels/ref/conv.cpp \
    'y_row[j] = static_cast<T>(sums[static_cast<std::size_t>(j)]);' \
    'y_row[j] = static_cast<T>(task == 0 && j == 0 ? 0.0 / 0.0 : sums[static_cast<std::size_t>(j)]);' "$ops"
plant 'a window one short' kernels/cpu/local_attention_simd.cpp \
    'for (int w = -s.radius[2]; w <= s.radius[2]; ++w, ++o) body(o, line + w + s.radius[2], d, h, w);' \
    'for (int w = -s.radius[2]; w < s.radius[2]; ++w, ++o) body(o, line + w + s.radius[2], d, h, w);' "$ops"
plant 'a tap off by one' kernels/ref/conv.cpp \
    'const double value = static_cast<double>(x_row[(w + tw) * c_in + i]);' \
    'const double value = static_cast<double>(x_row[w * c_in + i]);' "$ops"
plant 'a sum that drops its last pixel' kernels/ref/conv.cpp \
    'for (std::int64_t pixel = 0; pixel < p.n * grid.pixels(); ++pixel)' \
    'for (std::int64_t pixel = 0; pixel < p.n * grid.pixels() - 1; ++pixel)' "$ops"
plant 'a gradient that overwrites instead of adding' kernels/ref/conv.cpp \
    'out[o] = static_cast<T>(static_cast<double>(out[o]) + sum[o]);' \
    'out[o] = static_cast<T>(sum[o]);' "$ops"
[ -n "${1:-}" ] || rm -rf "$folder"
exit $bad
