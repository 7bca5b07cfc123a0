"""Timing on PyTorch's devices."""

import statistics
import time

import torch

DTYPE = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}
# Sets of operands take turns until together they hold this much, so that no call finds its own in a GPU's cache.
ROTATED_BYTES = 200e6


def set_precision(name):
    """tf32 lets matrix units round the operands of float32 products; the others take float32 as it is."""
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"


def channels_last(dims):
    return torch.channels_last if dims == 2 else torch.channels_last_3d


class Clock:
    """Milliseconds on the device: CUDA events around each call, or the wall clock on a CPU."""

    def __init__(self, device):
        self.cuda = device.startswith("cuda")

    def finish(self):
        if self.cuda:
            torch.cuda.synchronize()

    def once(self, call):
        self.finish()
        start = time.perf_counter()
        call(0)
        self.finish()
        return 1e3 * (time.perf_counter() - start)

    def measure(self, call, least=5, most=30, milliseconds=60.0, warm_up=2):
        """Median and spread of call(0), call(1), ...; as many as fit in `milliseconds`, but at least `least`."""
        for i in range(warm_up):
            call(i)
        estimate = max(self.once(call), 1e-3)
        repeats = int(min(most, max(least, milliseconds / estimate)))
        if not self.cuda:
            taken = [self.once(lambda _, i=i: call(i)) for i in range(repeats)]
        else:
            events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
            events[0].record()
            for i in range(repeats):
                call(i)
                events[i + 1].record()
            self.finish()
            taken = [a.elapsed_time(b) for a, b in zip(events, events[1:])]
        median = statistics.median(taken)
        return {"ms": median, "ms_min": min(taken), "ms_max": max(taken), "repeats": repeats}


def sets_for(bytes_of_one, most=8):
    return int(min(most, max(1, -(-ROTATED_BYTES // max(bytes_of_one, 1)))))
