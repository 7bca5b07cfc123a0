#!/bin/sh
# Looks for the Debian packages that the build needs, and installs what is missing when run as root; otherwise names the
# line that does and stops. Then says what this machine offers.
set -eu

packages="g++ cmake ninja-build pkg-config libhdf5-dev libfmt-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev
zlib1g-dev libpng-dev libjpeg-dev libboost-context-dev doctest-dev"

missing=""
if command -v dpkg-query > /dev/null; then
    # pkgconf may stand in for pkg-config, so a package counts as well when an installed one provides it.
    installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package} ${Provides}\n' | sed -n 's/^installed //p' |
        sed 's/([^)]*)//g' | tr ',\n' '  ') "
    for package in $packages; do
        case "$installed" in
        *" $package "*) ;;
        *) missing="$missing $package" ;;
        esac
    done
else
    echo "This is no Debian: install what these packages hold, then run 'make build':"
    echo $packages
    exit 1
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "Packages are missing:$missing"
        echo "Install them with"
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing"
        echo "and run make again."
        exit 1
    fi
    echo "Installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || {
        echo "apt-get update failed: is there a network, and do /etc/apt/sources.list* name a mirror?"
        exit 1
    }
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing > /dev/null || {
        echo "apt-get install failed for:$missing"
        exit 1
    }
fi

found() { printf '  \342\234\223 %-9s %s\n' "$1" "$2"; }
absent() { printf '  \342\234\227 %-9s %s\n' "$1" "$2"; }

found compiler "$(c++ --version | head -n 1)"
found CMake "$(cmake --version | sed -n 's/^cmake version //p')"
found HDF5 "$(pkg-config --modversion hdf5)"
nvcc=$(command -v nvcc || true)
[ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
if [ -n "$nvcc" ]; then
    found nvcc "$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
else
    absent nvcc "not found; built for the CPU"
fi
cudnn=$(/sbin/ldconfig -p 2> /dev/null | sed -n 's/.*=> \(.*libcudnn\.so\.[0-9]*\)$/\1/p' | head -n 1)
if [ -n "$cudnn" ]; then found cuDNN "$cudnn"; else absent cuDNN "not found; only the rows vendor_cudnn need it"; fi
gpu=$(nvidia-smi -L 2> /dev/null | head -n 1 || true)
case "$gpu" in
GPU*) found GPU "${gpu%% (UUID*}" ;;
*) absent GPU "none; runs on the CPU" ;;
esac
