#!/bin/sh
# The learning experiment of docs/learning.md: the eight 1024-pixel NIH samples stored at 192, crop 128, batch 4, degree 1.5,
# Adam 1e-4 constant, 500 steps, three seeds of each warp convention. Runs that are complete are not repeated; the curves
# are drawn from whatever is there. About ten minutes a run on two cores.
# Usage: tools/learning_curves.sh [FOLDER] [cover binary]
set -eu
cd "$(dirname "$0")/.."
folder=${1:-learning-runs}
cover=${2:-build/cover}
mkdir -p "$folder/images"
for name in 00000005_001 00000005_002 00000023_001 00000032_000 00000032_001 00000032_002 00000032_003 00000032_004; do
    cp "$(find data/samples -name "$name.png")" "$folder/images/"
done
[ -e "$folder/nih192.h5" ] || "$cover" prepare "$folder/images" --size 192 --out "$folder/nih192.h5"
for seed in 0 1 2; do
    for warp in reference exact; do
        run=$folder/$warp-$seed
        grep -qs '"finished"' "$run/log.jsonl" && continue
        rm -rf "$run"
        "$cover" pretrain --data "$folder/nih192.h5" --out "$run" --patch 128 --batch 4 --degree 1.5 --lr 1e-4 \
            --schedule constant --steps 500 --seed $seed --warp $warp
    done
done
python3 tools/learning_curves.py "$folder"/reference-? "$folder"/exact-? --svg docs/images/learning.svg
