# The front door. `make help` lists what it opens.
MAKEFLAGS += --no-print-directory
BUILD ?= build
PREFIX ?= /usr/local
PYTHON ?= python3
CMAKE_FLAGS ?=
SECONDS ?= 60
JOBS ?= 1
BUNDLE ?= gpu-bundle

.PHONY: all setup build demo test bench fuzz asan tsan emulation-asan emulation-tsan gpu-check gpu-bench gpu-bundle format install clean help
.NOTPARALLEL:

all: setup build

setup:
	@tools/setup.sh

$(BUILD)/build.ninja:
	cmake -S . -B $(BUILD) -G Ninja $(CMAKE_FLAGS)

build: $(BUILD)/build.ninja
	@cmake --build $(BUILD)

demo: all
	@$(BUILD)/cover demo

test: all
	@$(BUILD)/tests/cover_tests

bench: all
	@$(BUILD)/cover bench ops
	@$(PYTHON) bench/compare_pytorch.py --cover $(BUILD)/cover || { code=$$?; test $$code -eq 77 -o $$code -eq 127; }

fuzz:
	@BUILD=$(BUILD) JOBS=$(JOBS) tools/fuzz.sh $(SECONDS)

asan tsan: setup
	@tools/sanitize.sh $@

gpu-check: all
	@tools/gpu_check.sh --programs $(BUILD)

gpu-bench: all
	@tools/gpu_bench.sh --programs $(BUILD) --python "$(PYTHON)" --results bench/results --markdown docs/benchmarks_gpu.md

gpu-bundle: all
	@BUILD=$(BUILD) tools/gpu_bundle.sh $(BUNDLE)

emulation-asan emulation-tsan: setup
	@tools/sanitize.sh $@

format:
	@command -v clang-format > /dev/null || { echo "clang-format is missing: apt-get install clang-format"; exit 1; }
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

install: all
	cmake --install $(BUILD) --prefix $(abspath $(PREFIX))

clean:
	rm -rf $(BUILD) build-fuzz build-asan build-tsan

help:
	@echo "make               set up and build $(BUILD)/cover"
	@echo "make demo          the whole of it on the sample images: prepare, pretrain, evaluate, export, report"
	@echo "make test          every test; the last line counts passed, failed and skipped;"
	@echo "                   COVER_LONG_TESTS=1: the long versions of the tests of hostile files"
	@echo "make bench         every kernel row, then the training step beside PyTorch where that is installed"
	@echo "make fuzz          every reader of foreign files under libFuzzer, SECONDS=$(SECONDS) each, JOBS=$(JOBS) at a time; needs clang"
	@echo "make asan          the tests under the address and undefined-behaviour sanitizers; JOBS (all) at a time"
	@echo "make tsan          the tests of threads under the thread sanitizer"
	@echo "make emulation-asan  the CUDA kernels, emulated, under the address and undefined-behaviour sanitizers: every 5th shape (EVERY)"
	@echo "make emulation-tsan  the same under the thread sanitizer: races between CUDA threads; every 23rd shape (EVERY)"
	@echo "make gpu-check     all CUDA rows and runs on a device, and compute-sanitizer; prints a table"
	@echo "make gpu-bench     every CUDA row and the training step on a device beside PyTorch and cuDNN; JSON and docs/benchmarks_gpu.md"
	@echo "make gpu-bundle    a folder that checks and times the CUDA rows on a machine with nvcc, CMake, ninja and Python alone"
	@echo "make setup         look for the packages that the build needs; as root, install what is missing"
	@echo "make build         build without looking for packages"
	@echo "make install       into PREFIX ($(PREFIX))"
	@echo "make format        clang-format on every tracked source"
	@echo "make clean         remove $(BUILD) and the builds of fuzz, asan and tsan"
	@echo "Variables: BUILD, PREFIX, DESTDIR, PYTHON, CMAKE_FLAGS, SECONDS, JOBS, EVERY, BUNDLE."
