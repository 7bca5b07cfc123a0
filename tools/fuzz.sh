#!/bin/sh
# fuzz.sh SECONDS [TARGET...]: feeds every reader of foreign files (or those named) with mutations of tests/fuzz/corpus,
# for so many seconds each, under the address and undefined-behaviour sanitizers. Build and new inputs lie in build-fuzz;
# a finding is kept in build-fuzz/findings and is read again by `cover_replay TARGET FILE`. Exit 1 with a finding.
# JOBS=N runs so many targets side by side.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=${*:-$(ls tests/fuzz/corpus)}
build=${BUILD_FUZZ:-build-fuzz}

clang=""
for name in clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14; do
    command -v "$name" > /dev/null || continue
    clang=$name
    break
done
if [ -z "$clang" ]; then
    echo "fuzz: clang is not here. On Debian: apt-get install clang libclang-rt-14-dev. Then run make fuzz again."
    exit 1
fi
mkdir -p "$build/findings"
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' > "$build/probe.cpp"
if ! "$clang" -fsanitize=fuzzer,address,undefined -o "$build/probe" "$build/probe.cpp" 2> "$build/probe.log"; then
    echo "fuzz: $clang cannot link libFuzzer and the sanitizers. On Debian: apt-get install libclang-rt-14-dev."
    cat "$build/probe.log"
    exit 1
fi

gcc_build=${BUILD:-build}
[ -f "$gcc_build/build.ninja" ] || cmake -S . -B "$gcc_build" -G Ninja > /dev/null
cmake --build "$gcc_build" --target cover_kernels
gcc_build=$(cd "$gcc_build" && pwd)
sanitize="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer"
cmake -S . -B "$build" -G Ninja -DCOVER_FUZZ=ON -DCOVER_FUZZ_BUILD="$gcc_build" -DCMAKE_CXX_COMPILER="$clang" \
    -DCMAKE_CXX_FLAGS="$sanitize" > "$build/cmake.log"
cmake --build "$build" --target fuzzers

# One target; its line of the summary goes to TARGET.summary. Fails with a finding.
cat > "$build/one.sh" << 'INNER'
seconds=$1 build=$2 target=$3
mkdir -p "$build/corpus/$target"
log=$build/$target.log
status=0
found="no finding"
UBSAN_OPTIONS=print_stacktrace=1 "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=25 \
    -rss_limit_mb=2560 -max_len=65536 -print_final_stats=1 -artifact_prefix="$build/findings/$target-" \
    "$build/corpus/$target" "tests/fuzz/corpus/$target" > "$log" 2>&1 || {
    found="FINDING, see $log and $build/findings"
    status=1
}
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
cover=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2)
echo "$target: ${runs:-?} inputs in $seconds s, ${cover:-?} edges, peak ${peak:-?} MiB, $found" | tee "$build/$target.summary"
exit $status
INNER
status=0
for target in $targets; do rm -f "$build/$target.summary"; done
printf '%s\n' $targets | xargs -P "${JOBS:-1}" -n 1 sh "$build/one.sh" "$seconds" "$build" || status=1
echo "== summary"
for target in $targets; do cat "$build/$target.summary"; done
exit $status
