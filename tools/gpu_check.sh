#!/bin/sh
# Everything that only a CUDA device can show, in one command, and a table of it: every CUDA row against the float64
# reference, whole steps and runs beside the CPU's, the authors' numbers, and the four tools of compute-sanitizer.
# Without a device every line says skipped, and the exit code is 0.
#
#     tools/gpu_check.sh [--only PATTERN] [--every N] [--seconds N] [--log FOLDER] [--programs FOLDER]
#
#   --only PATTERN     the lines whose name matches (grep -E), such as '^rows of conv|^golden'
#   --every N          the sanitizers run every N-th shape of a row (40)
#   --seconds N        after these no line begins, and what runs is ended; such lines FAIL (460)
#   --log FOLDER       where the output of each line is kept (a temporary folder, named when something fails)
#   --programs FOLDER  holds cover, tests/cover_tests or cover_tests, and golden/ (build, or the bundle itself)
set -u

here=$(cd "$(dirname "$0")" && pwd)
if [ -x "$here/cover_tests" ]; then programs=$here; else programs=$here/../build; fi
only=""
every=40
seconds=460
log=""
while [ $# -gt 0 ]; do
    case "$1" in
    --only | --every | --seconds | --log | --programs)
        [ $# -gt 1 ] || { echo "gpu_check: $1 needs a value"; exit 2; }
        case "$1" in
        --only) only=$2 ;;
        --every) every=$2 ;;
        --seconds) seconds=$2 ;;
        --log) log=$2 ;;
        --programs) programs=$2 ;;
        esac
        shift 2
        ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '/^set/d'; exit 2 ;;
    esac
done
programs=$(cd "$programs" && pwd) || exit 2
tests=$programs/cover_tests
[ -x "$tests" ] || tests=$programs/tests/cover_tests
golden=$programs/golden
[ -d "$golden" ] || golden=$here/../tests/golden
[ -x "$tests" ] && [ -x "$programs/cover" ] || { echo "gpu_check: no cover and cover_tests in $programs; build them first (make)"; exit 2; }
[ -n "$log" ] || log=$(mktemp -d "${TMPDIR:-/tmp}/cover-gpu-check.XXXXXX")
mkdir -p "$log"
export COVER_PROGRAM="$programs/cover"

# One line of the table a job: name, seconds it may take, command.
jobs=$log/jobs
: > "$jobs"
job() {
    ! printf '%s' "$1" | grep -Eq "$only" || printf '%s\t%s\t%s\n' "$1" "$2" "$3" >> "$jobs"
}
"$tests" -ltc -nv 2> /dev/null | grep -E ': every row(,|$)' > "$log/tables" || true
while IFS= read -r table; do
    pattern=$(printf '%s' "$table" | tr ",\"'\\[]" '??????')
    job "rows of $table" 240 "COVER_TEST_DEVICE=cuda '$tests' -tc='$pattern'"
    # Of the shorter lists of the fused convolutions more, so that each of the nine kinds of pending values is among them.
    case $table in fused_conv*) shapes=$((every < 7 ? every : 7)) ;; *) shapes=$every ;; esac
    for tool in memcheck racecheck initcheck synccheck; do
        job "$tool of $table" 240 "COVER_TEST_DEVICE=cuda COVER_TEST_EVERY=$shapes COVER_ARENA=off compute-sanitizer --tool $tool --error-exitcode 99 --print-limit 5 '$tests' -tc='$pattern'"
    done
done < "$log/tables"
job "device: memory, views, steps 2D and 3D" 240 "COVER_TEST_DEVICE=cuda '$tests' -tc='device: two*,device: steps*,device: blocks*,device: a CUDA*,device views*,vendor: on a CUDA*'"
job "several tiles a block" 240 "COVER_TEST_DEVICE=cuda '$tests' -tc='*where a block takes more than one tile'"
job "fusion: a step beside the plain one" 240 "COVER_TEST_DEVICE=cuda '$tests' -tc='fusion: a step agrees*'"
job "gpu: 20 steps, resume" 240 "'$tests' -tc='gpu:*'"
for precision in fp32 tf32 bf16; do
    for file in affine_flow cover2d_amp3 cover2d_small cover3d_small; do
        [ $file != affine_flow ] || [ $precision = fp32 ] || continue
        job "golden: $file $precision" 240 "'$programs/cover' verify golden '$golden/$file.h5' --device cuda --precision $precision"
    done
done
# Of these files' layers rung 6 takes those of cover2d_small that have 32 channels; fusion: has the others.
fused_golden() { # precision, row
    for file in cover2d_amp3 cover2d_small cover3d_small; do
        [ $2 != cuda_6_wgmma ] || [ $file = cover2d_small ] || continue
        job "golden: $file $1, fused_conv:$2" 240 "'$programs/cover' verify golden '$golden/$file.h5' --device cuda --precision $1 --kernel fused_conv:$2"
    done
}
fused_golden fp32 cuda_3_register
fused_golden tf32 cuda_tf32
fused_golden bf16 cuda_5_ldmatrix
fused_golden bf16 cuda_6_wgmma

cat > "$log/run_one.sh" <<'INNER'
log=$1
line=$2
name=$(printf '%s' "$line" | cut -f1)
limit=$(printf '%s' "$line" | cut -f2)
command=$(printf '%s' "$line" | cut -f3)
file=$log/$(printf '%s' "$name" | tr -c 'a-zA-Z0-9\n' '_').log
start=$(date +%s.%N)
left=$((COVER_CHECK_UNTIL - $(date +%s)))
if [ $left -le 0 ]; then
    printf '%s\tFAILED\t0\tnot begun: no time was left\n' "$name" >> "$log/results"
    exit 0
fi
[ $limit -le $left ] || limit=$left
timeout "$limit" sh -c "$command" > "$file" 2>&1
code=$?
seconds=$(echo "$start $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}')
tally=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$file" | tail -n 1)
why=""
if [ $code -eq 124 ]; then
    result=FAILED; why="not done after $limit s"
elif printf '%s' "$tally" | grep -q '^0 passed, 0 failed'; then
    result=skipped; why=$(grep -h -m 1 '^skipped' "$file")
elif grep -q 'Device not supported' "$file"; then
    result=skipped; why=$(grep -m 1 'Device not supported' "$file")
elif [ $code -eq 127 ] && grep -q 'compute-sanitizer' "$file"; then
    result=skipped; why="compute-sanitizer is not on the PATH"
elif grep -q 'there is no CUDA device\|built without nvcc' "$file" && [ $code -eq 0 -o $code -eq 5 ]; then
    result=skipped; why=$(grep -h -m 1 -o '\[device\].*' "$file")
elif [ $code -ne 0 ]; then
    result=FAILED; why=$(grep -h -m 1 -E 'ERROR:|FAILED|Error' "$file")
else
    result=passed; why=$tally
    [ -n "$why" ] || why=$(tail -n 1 "$file")
fi
printf '%s\t%s\t%s\t%s\n' "$name" "$result" "$seconds" "$(printf '%s' "$why" | cut -c 1-110)" >> "$log/results"
INNER
: > "$log/results"
start=$(date +%s)
export COVER_CHECK_UNTIL=$((start + seconds))
# The longest first, the sanitizers last.
{ grep '^gpu' "$jobs"; grep -E '^(rows|golden|device|fusion|several)' "$jobs"; grep 'check of' "$jobs"; } | tr '\n' '\0' |
    xargs -0 -P "$(nproc)" -n 1 sh "$log/run_one.sh" "$log"

printf '%-64s %-8s %8s  %s\n' "check" "result" "seconds" "what it said"
sort "$log/results" | awk -F '\t' '{printf "%-64s %-8s %8s  %s\n", $1, $2, $3, $4}'
awk -F '\t' -v seconds=$(($(date +%s) - start)) '{count[$2]++} END {printf "%d passed, %d failed, %d skipped in %d s\n", count["passed"], count["FAILED"], count["skipped"], seconds}' "$log/results"
if grep -q FAILED "$log/results" || [ ! -s "$log/results" ]; then
    echo "the output of each line is in $log"
    exit 1
fi
