#!/bin/sh
# Writes a folder that a machine with a GPU can use as it is: cover and cover_tests with every library but glibc's, the
# golden files, the benches and the CUDA sources. Nothing is compiled or fetched there; only nvcc, CMake and ninja are
# needed to rebuild a changed kernel, and Python with PyTorch to compare with it:
#
#     ./gpu_check.sh          what `make gpu-check` does
#     ./gpu_bench.sh          what `make gpu-bench` does
#     ./rebuild_cuda.sh       compiles source/kernels/cuda anew into lib/libcover_cuda.so
#
#     BUILD=build tools/gpu_bundle.sh [FOLDER]
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
bundle=${1:-gpu-bundle}
limit_mib=60

[ -e "$build/libcover_cuda.so" ] || { echo "gpu_bundle: $build has no libcover_cuda.so: nvcc 12 or later was not found when it was built"; exit 1; }
rm -rf "$bundle"
mkdir -p "$bundle/lib" "$bundle/source/tools"
for program in "$build/cover" "$build/tests/cover_tests"; do
    strip -o "$bundle/$(basename "$program")" "$program"
done
# Every shared library that the programs need, theirs included; glibc and the loader are the machine's own.
for program in "$build/cover" "$build/tests/cover_tests"; do
    ldd "$program"
done | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u | while IFS= read -r library; do
    case "$(basename "$library")" in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.* | ld-linux*) continue ;;
    esac
    strip --strip-unneeded -o "$bundle/lib/$(basename "$library")" "$library" 2> /dev/null || cp -L "$library" "$bundle/lib/"
done
for plugin in "$build"/libcover_vendor.so; do
    [ ! -e "$plugin" ] || strip --strip-unneeded -o "$bundle/lib/$(basename "$plugin")" "$plugin"
done
cp -r tests/golden "$bundle/golden"
cp tools/gpu_check.sh "$bundle/"
[ ! -e tools/gpu_bench.sh ] || cp tools/gpu_bench.sh "$bundle/"
mkdir -p "$bundle/bench"
cp bench/*.py "$bundle/bench/"
# What the CUDA library is made of: headers of core/ and kernels/, and its own sources.
git ls-files core kernels | grep -E '\.(h|cuh)$|^kernels/(cuda|vendor)/' | while IFS= read -r file; do
    mkdir -p "$bundle/source/$(dirname "$file")"
    cp "$file" "$bundle/source/$file"
done
cp tools/keep_compiler_report.sh "$bundle/source/tools/"
cat > "$bundle/rebuild_cuda.sh" <<'INNER'
#!/bin/sh
# Compiles source/kernels/cuda and puts the library into its place; the old one stays as libcover_cuda.so.before.
set -eu
cd "$(dirname "$0")"
cmake -S source/kernels/cuda -B build-cuda -G Ninja "$@"
cmake --build build-cuda
[ -e lib/libcover_cuda.so.before ] || cp lib/libcover_cuda.so lib/libcover_cuda.so.before
cp build-cuda/libcover_cuda.so lib/libcover_cuda.so.new
mv lib/libcover_cuda.so.new lib/libcover_cuda.so
INNER
chmod +x "$bundle/rebuild_cuda.sh"
size=$(du -sk "$bundle" | cut -f1)
echo "$bundle: $size KiB, cover of $(git log -1 --format=%h 2> /dev/null || echo 'no commit')"
[ "$size" -lt $((limit_mib * 1024)) ] || { echo "gpu_bundle: not under $limit_mib MiB"; exit 1; }
