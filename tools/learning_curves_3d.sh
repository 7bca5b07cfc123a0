#!/bin/sh
# The 3D experiment of docs/learning.md: hippocampus volumes stored at 48 x 64 x 48, patch 32, batch 2, Adam 1e-4 constant,
# 400 steps, seed 0 of each warp convention. VOLUMES is the folder of the training volumes (the Medical Segmentation
# Decathlon's Task04_Hippocampus, or a part of it); with an index.csv its split "train" is taken. Runs that are complete are
# not repeated; the curves are drawn from whatever is there. About a quarter of an hour a run on two cores.
# Usage: tools/learning_curves_3d.sh VOLUMES [FOLDER] [cover binary]
set -eu
cd "$(dirname "$0")/.."
volumes=$1
folder=${2:-learning-runs-3d}
cover=${3:-build/cover}
mkdir -p "$folder"
split=
if [ -e "$volumes/index.csv" ]; then split="--split train"; fi
[ -e "$folder/volumes.h5" ] || "$cover" prepare "$volumes" $split --size 48x64x48 --out "$folder/volumes.h5"
for warp in reference exact; do
    run=$folder/$warp-0
    grep -qs '"finished"' "$run/log.jsonl" && continue
    rm -rf "$run"
    "$cover" pretrain --data "$folder/volumes.h5" --out "$run" --patch 32 --batch 2 --optimizer adam --lr 1e-4 \
        --schedule constant --steps 400 --seed 0 --warp $warp
done
python3 tools/learning_curves.py --dims 3 "$folder"/reference-? "$folder"/exact-? --svg docs/images/learning_3d.svg
