#!/bin/sh
# Every CUDA row, and the whole training step, timed on a GPU beside PyTorch and cuDNN there, against the device's own
# rates of copying and of products. Under eight minutes. Without a device it says skipped, and the exit code is 0.
#
#     tools/gpu_bench.sh [--only SECTIONS] [--quick] [--out FOLDER] [--results FOLDER] [--markdown FILE]
#                        [--patch N] [--batch N] [--python PYTHON] [--programs FOLDER] [--device DEVICE]
#
#   --only SECTIONS    some of roof,conv,ops,step,compile, with commas (all); roof: the rates alone, which every other
#                      section measures too; compile: PyTorch's step compiled. That takes minutes: two processes, for 2D
#                      and 3D, begin with the script and wait, compiled and warm, for their turns behind all else. They
#                      need processors of their own, and hold a step's memory meanwhile
#   --quick            bfloat16 and two dimensions alone, a few calls of each, nothing compiled: about a minute
#   --out FOLDER       where the raw numbers are kept (a temporary folder, which is named)
#   --results FOLDER   writes gpu_DEVICE_DATE.json there
#   --markdown FILE    and a page made of all such files
#   --patch, --batch   of the two-dimensional shapes (384, 24)
#   --python PYTHON    one that has torch (python3); without torch our rows are timed alone
#   --programs FOLDER  holds cover (build, or the bundle itself)
#   --device DEVICE    emulated tries the script itself, with --patch 16 --batch 1, and cpu for PyTorch (cuda)
set -u

here=$(cd "$(dirname "$0")" && pwd)
if [ -x "$here/cover" ]; then programs=$here; root=$here; else programs=$here/../build; root=$here/..; fi
only=roof,conv,ops,step,compile
quick=""
out=""
results=""
markdown=""
patch=384
batch=24
python=${PYTHON:-python3}
device=cuda
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) quick=1; shift; continue ;;
    --only | --out | --results | --markdown | --patch | --batch | --python | --programs | --device) ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '/^set/d'; exit 2 ;;
    esac
    [ $# -gt 1 ] || { echo "gpu_bench: $1 needs a value"; exit 2; }
    case "$1" in
    --only) only=$2 ;;
    --out) out=$2 ;;
    --results) results=$2 ;;
    --markdown) markdown=$2 ;;
    --patch) patch=$2 ;;
    --batch) batch=$2 ;;
    --python) python=$2 ;;
    --programs) programs=$2 ;;
    --device) device=$2 ;;
    esac
    shift 2
done
for section in $(printf '%s' "$only" | tr , ' '); do
    case $section in
    roof | conv | ops | step | compile) ;;
    *) echo "gpu_bench: --only: '$section' is none of roof, conv, ops, step, compile"; exit 2 ;;
    esac
done
cover=$programs/cover
[ -x "$cover" ] || { echo "gpu_bench: no cover in $programs; build it first (make)"; exit 2; }
[ -n "$out" ] || out=$(mktemp -d "${TMPDIR:-/tmp}/cover-gpu-bench.XXXXXX")
mkdir -p "$out"
if [ "$quick" ]; then
    precisions="bf16"; cases="2d"; seconds=0.004; conv_limit=20; ops_limit=10; steps=5
    fused_limit=10
    limits="--limit roof=5 --limit conv=12 --limit ops=6 --limit step=15"
else
    precisions="bf16 tf32 fp32"; cases="2d 3d"; seconds=0.02; conv_limit=60; ops_limit=40; steps=8
    fused_limit=25
    limits="--limit roof=8 --limit conv=40 --limit ops=15 --limit step=40"
fi
# Ours and PyTorch's rates are wanted whatever else is.
sections=$(printf '%s' "roof,$only" | sed 's/,compile//g')
wanted() { case ",$only," in *",$1,"*) return 0 ;; *) return 1 ;; esac }
start=$(date +%s)
ours_until=270 # seconds from the start; what is left of eight minutes is PyTorch's
all_until=470
say() { echo "[$(($(date +%s) - start)) s] $*"; }

# A device that is not there is found out by the first, smallest measurement.
"$cover" bench ops --device "$device" --patch 16 --batch 1 --op add --seconds 0.0001 --json > "$out/first.json" 2> "$out/first.err"
case $? in
0) ;;
5) echo "gpu-bench: skipped: $(cat "$out/first.err")"; exit 0 ;;
*) cat "$out/first.err"; exit 1 ;;
esac

# FILE SECTIONS CASES ARGUMENTS...: what PyTorch needs there, in FILE.json, until all_until at the latest.
torch_device=$device
tiny=""
[ "$device" = cuda ] || { torch_device=cpu; tiny=--tiny; }
baseline() {
    file=$1; named=$2; of=$(printf '%s' "$3" | tr ' ' ,); shift 3
    rm -f "$file.json"
    "$python" "$root/bench/gpu_baseline.py" --sections "$named" --precisions "$(printf '%s' "$precisions" | tr ' ' ,)" \
        --cases "$of" --patch "$patch" --batch "$batch" --device $torch_device $tiny \
        --seconds $((start + all_until - $(date +%s))) "$@" --out "$file.json" > "$file.txt" 2>&1
}
said() {
    case $1 in
    0) ;;
    77) say "$(tail -n 1 "$2.txt")" ;;
    *) say "PyTorch: something did not run; see $2.txt" ;;
    esac
}
compiling=""
if wanted compile && [ -z "$quick" ]; then
    for case in $cases; do
        rm -f "$out/turn_$case" "$out/turn_$case.ready" "$out/pytorch_compile_$case.code"
        {
            baseline "$out/pytorch_compile_$case" compile "$case" --limit compile=$all_until --wait-for "$out/turn_$case"
            echo $? > "$out/pytorch_compile_$case.code"
        } &
        compiling="$compiling $case"
    done
fi

# NAME LIMIT ARGUMENTS...: what `cover` prints goes to NAME.json. A failure is said and the next one tried.
failed=0
measure() {
    name=$1; limit=$2; shift 2
    rm -f "$out/$name.json"
    left=$((start + ours_until - $(date +%s)))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 3 ]; then say "$name: left out, $ours_until s are over"; failed=1; return; fi
    timeout "$limit" "$cover" bench "$@" --device "$device" --json > "$out/$name.part" 2> "$out/$name.err"
    code=$?
    if [ $code -eq 0 ]; then mv "$out/$name.part" "$out/$name.json"; rm -f "$out/$name.err"; return; fi
    rm -f "$out/$name.part"
    failed=1
    if [ $code -eq 124 ]; then say "$name: not done after $limit s"; else say "$name: exit code $code: $(tail -n 2 "$out/$name.err")"; fi
}
one=""
[ -z "$quick" ] || one="--precision bf16"
plane="--dims 2 --patch $patch --batch $batch"
# All ops but the convolutions, plain and fused; a name stands for its backward too.
others=$("$cover" info --json | "$python" -c 'import json, sys
print(",".join(op for op in json.load(sys.stdin)["kernels"] if not op.startswith(("conv", "fused_conv")) and not op.endswith("_backward")))') || exit 1
if wanted conv; then
    say "conv: our rows"
    measure conv $((conv_limit + 40)) ops $plane --op conv --seconds $seconds --limit $conv_limit $one
    measure fused $((fused_limit + 20)) ops $plane --op fused_conv --seconds $seconds --limit $fused_limit --precision bf16
elif wanted roof; then
    # The rates stand in every file; this one has next to nothing else.
    measure conv 60 ops $plane --op add --seconds $seconds --limit 0.000001
fi
if wanted ops; then
    say "ops: our rows"
    measure ops $((ops_limit + 30)) ops $plane --op $others --seconds $seconds --limit $ops_limit $one
fi
if wanted step; then
    for precision in $precisions; do
        for case in $cases; do
            say "step: ours, $case $precision"
            shape=$plane
            [ "$case" = 2d ] || shape="--dims 3 --patch 96 --batch 4"
            [ "$device" = cuda ] || [ "$case" = 2d ] || shape="--dims 3 --patch 16 --batch 1"
            measure "step_${case}_$precision" 40 step $shape --precision "$precision" --steps $steps
        done
    done
fi
say "PyTorch"
baseline "$out/pytorch" "$sections" "$cases" $limits
said $? "$out/pytorch"
if [ "$compiling" ]; then
    say "PyTorch, compiled"
    # A step that is compiled and warm is timed alone: its turn ends when it has removed the file.
    while [ "$compiling" ]; do
        for case in $compiling; do
            if [ -e "$out/turn_$case.ready" ]; then
                touch "$out/turn_$case"
                while [ -e "$out/turn_$case" ] && [ ! -e "$out/pytorch_compile_$case.code" ]; do sleep 0.2; done
            fi
            [ -e "$out/pytorch_compile_$case.code" ] || continue
            said "$(cat "$out/pytorch_compile_$case.code")" "$out/pytorch_compile_$case"
            compiling=$(printf '%s' "$compiling" | sed "s/ $case//")
        done
        sleep 0.5
    done
    wait
fi
say "done; raw numbers in $out"
rm -f "$out/first.json" "$out/first.err"
set -- "$out"
[ -z "$results" ] || set -- "$@" --results "$results"
"$python" "$root/bench/compare_pytorch_gpu.py" "$@" | tee "$out/report.md" || exit 1
[ -z "$markdown" ] || [ -z "$results" ] || "$python" "$root/bench/compare_pytorch_gpu.py" --markdown "$results"/gpu_*.json > "$markdown"
exit $failed
