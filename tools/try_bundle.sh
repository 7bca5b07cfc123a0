#!/bin/sh
# Proves that a bundle (make gpu-bundle) needs nothing but what its first lines say: makes a bare Debian 12 in a folder with
# g++, CMake, ninja and python3, no network and none of the project's libraries, binds this machine's CUDA toolkit into it,
# and runs gpu_check.sh, gpu_bench.sh and rebuild_cuda.sh there. Without a GPU the first two say skipped, and of the
# CUDA library one source is compiled (all of them with --whole). Needs root, debootstrap and a Debian mirror.
#
#     tools/try_bundle.sh [--whole] [BUNDLE]
set -eu

whole=no
if [ "${1:-}" = --whole ]; then
    whole=yes
    shift
fi
bundle=$(cd "${1:-gpu-bundle}" && pwd)
cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
mirror=$(sed -n 's/^URIs: *//p; s/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\)  *bookworm .*/\2/p' /etc/apt/sources.list.d/* /etc/apt/sources.list 2> /dev/null | head -n 1)
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/cover-bundle.XXXXXX")
root=$folder/root
trap 'rm -rf --one-file-system "$folder"' EXIT
debootstrap --variant=minbase --include=g++,cmake,ninja-build,python3-minimal bookworm "$root" "$mirror" > "$folder/log" 2>&1 || {
    tail -n 20 "$folder/log"
    exit 1
}
cp -r "$bundle" "$root/bundle"
mkdir -p "$root$cuda"
# Its mounts end with it; no network inside.
unshare --mount --net --propagation private sh -eu -c '
    root=$1; cuda=$2; whole=$3
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount --bind -o ro "$cuda" "$root$cuda"
    inside() { chroot=$(command -v chroot); env -i PATH="$cuda/bin:/usr/bin:/bin" HOME=/tmp TERM=dumb "$chroot" "$root" sh -c "cd /bundle && $1"; }
    echo "== cover info"; inside "./cover info | head -n 8"
    echo "== gpu_check.sh"; inside "./gpu_check.sh | tail -n 3"
    echo "== gpu_bench.sh"; inside "./gpu_bench.sh | tail -n 3"
    echo "== rebuild_cuda.sh"
    if [ "$whole" = yes ]; then
        inside "./rebuild_cuda.sh > /tmp/rebuild.log 2>&1 || { tail -n 20 /tmp/rebuild.log; exit 1; }; ./cover info | grep -c cuda"
    else
        inside "cmake -S source/kernels/cuda -B build-cuda -G Ninja > /dev/null && ninja -C build-cuda CMakeFiles/cover_cuda.dir/optim.cu.o | tail -n 1"
    fi
' sh "$root" "$cuda" "$whole"
echo "the bundle serves"
