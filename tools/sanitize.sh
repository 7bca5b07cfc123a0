#!/bin/sh
# sanitize.sh KIND: builds with sanitizers in build-asan or build-tsan and runs the tests there.
#   asan: address (leaks included) and undefined behaviour, all tests but those named below.
#   tsan: data races, the tests of threads: pool, loader, a training step with several of them, and emulated CUDA threads.
#   emulation-asan, emulation-tsan: the CUDA kernels on the emulated device alone: every row of every table on every
#         EVERY-th of its shapes (5, 23; of the longest lists every 12 EVERY + 1st), and the emulation's own tests; asan
#         the edges of the convolutions' tiles and whole steps as well. EVERY has no factor 2 or 3: with one it would fall
#         in step with the kinds of shapes that alternate in a list.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-asan}
build=build-${kind#emulation-}
case $kind in
asan)
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
    # The two tests of weak symbols read the object files, and sanitizers put symbols of their own there. Where cuDNN is
    # installed, the test that asks it for plans loses memory inside of cuBLAS and cuDNN, which are closed.
    cases=""
    without="instruction sets:*,vendor: cuDNN has*"
    ;;
tsan)
    flags="-fsanitize=thread"
    cases="parallel:*,loader:*,views: same bits*,*does not depend on threads*,*any number of threads*,emulation*"
    # Races on purpose.
    without="emulation*a removed barrier*"
    ;;
emulation-asan)
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
    cases="*every row*,*at the edges of*,device:*,fusion: a step agrees*,emulation*"
    without=""
    export COVER_TEST_DEVICE=emulated COVER_TEST_EVERY="${EVERY:-5}" COVER_ARENA=off
    ;;
emulation-tsan)
    flags="-fsanitize=thread"
    cases="*every row*,emulation*"
    # Races on purpose; and the bench, whose kernels the tables run already, at shapes that take hours here.
    without="emulation*a removed barrier*,bench:*"
    export COVER_TEST_DEVICE=emulated COVER_TEST_EVERY="${EVERY:-23}" COVER_ARENA=off
    ;;
*)
    echo "usage: sanitize.sh asan|tsan|emulation-asan|emulation-tsan"
    exit 2
    ;;
esac
# With sanitizers g++ 12 takes members of std::regex's own states for uninitialized. The rows that nvcc compiles carry no
# sanitizer and need a device.
cmake -S . -B "$build" -G Ninja -DCOVER_CUDA=OFF \
    -DCMAKE_CXX_FLAGS="$flags -fno-omit-frame-pointer -Wno-maybe-uninitialized" > /dev/null
cmake --build "$build"

export ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1"
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1"

# Pieces of eight test cases, JOBS of them side by side (as many as there are processors, unless told otherwise): most
# tests are one thread. A piece that fails is shown whole; one whose tests are all skipped exits with 1 and has not failed.
jobs=${JOBS:-$(nproc)}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export tests="$build/tests/cover_tests" cases without out
count=$("$tests" ${cases:+-tc="$cases"} ${without:+-tce="$without"} --count | sed -n 's/.*current filters: //p')
[ "${count:-0}" -gt 0 ] || { echo "sanitize: $tests names no test for this"; exit 1; }
seq 1 8 "$count" | xargs -P "$jobs" -n 1 sh -c '
    first=$1 last=$(($1 + 7))
    "$tests" ${cases:+-tc="$cases"} ${without:+-tce="$without"} --first=$first --last=$last > "$out/$first" 2>&1
    status=$?
    if [ $status = 0 ] || tail -1 "$out/$first" | grep -q "^0 passed, 0 failed, [1-9]"; then
        echo "tests $first to $last: $(tail -1 "$out/$first")"
    else
        cat "$out/$first"
        echo "tests $first to $last: exit status $status" > "$out/$first.failed"
    fi' sh
cat "$out"/* | awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit p == 0 }' || touch "$out/nothing.failed"
if ls "$out"/*.failed > /dev/null 2>&1; then
    cat "$out"/*.failed
    exit 1
fi
