#!/usr/bin/env python3
"""PyTorch's side of `make bench-attention`: scaled_dot_product_attention, causal, bfloat16, by each of its backends.

The first line of output says what is there, or "n/a: " and why nothing is. Then each line "B T NH NKV HS LAUNCHES" on
standard input is answered with "BACKEND FORWARD BACKWARD" for each backend, milliseconds, each the median of so many
launches with a cold L2 cache; "-" where the backend refuses, and a "*" behind what had to repeat keys and values for the
heads that share them. Queries, keys and values are views of one packed (B, T, NH + 2 NKV, HS) tensor, as Kiln reads
them, and also contiguous (B, NH, T, HS): each pass of each backend is given the layout that it is faster with.
"""

import functools
import statistics
import sys
import warnings

BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")


def say(text):
    print(text, flush=True)


try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    say(f"n/a: no PyTorch in {sys.executable} ({error})")
    sys.exit(0)


class Clock:
    """As Kiln's: before each launch the cache is filled with something else, and the host gets ahead of the GPU."""

    def __init__(self):
        properties = torch.cuda.get_device_properties(0)
        self.other = torch.zeros(2 * getattr(properties, "L2_cache_size", 64 << 20) // 4, device="cuda")

    def median_ms(self, work, launches):
        work()
        times = []
        for _ in range(launches):
            self.other.sum()
            torch.cuda._sleep(1_000_000)
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        return statistics.median(times)


class Attention:
    """One backend, one layout; throws RuntimeError where the backend refuses."""

    def __init__(self, backend, packed, B, T, NH, NKV, HS):
        # Uniform, of variance 1: what Kiln gets.
        x = (2 * torch.rand(B, T, NH + 2 * NKV, HS, device="cuda", dtype=torch.bfloat16) - 1) * 3**0.5
        heads = [part.transpose(1, 2) for part in x.split([NH, NKV, NKV], dim=2)]
        dout = torch.rand(B, T, NH, HS, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
        if not packed:
            heads, dout = [part.contiguous() for part in heads], dout.contiguous()
        self.inputs, self.dout = [part.detach().requires_grad_() for part in heads], dout
        self.backend, self.group, self.repeats = backend, NH // NKV, False
        try:
            self.backward(self.forward())
        except (RuntimeError, TypeError):
            if self.group == 1:
                raise RuntimeError("refused") from None
            self.repeats = True
            self.backward(self.forward())

    def forward(self):
        q, k, v = self.inputs
        grouped = {"enable_gqa": True} if self.group > 1 and not self.repeats else {}
        if self.repeats:
            k, v = k.repeat_interleave(self.group, 1), v.repeat_interleave(self.group, 1)
        with sdpa_kernel(self.backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, **grouped)

    def backward(self, out):
        return torch.autograd.grad(out, self.inputs, self.dout, retain_graph=True)

    def passes(self):
        """The two, ready to be timed."""
        return [self.forward, functools.partial(self.backward, self.forward())]


def fastest(name, shape, clock):
    """[(pass, mark)], each with the layout that suits it; None where the backend refuses both."""
    best = None
    for packed in (True, False):
        try:
            attention = Attention(getattr(SDPBackend, name), packed, *shape)
        except (RuntimeError, TypeError, AttributeError):
            continue
        now = [(clock.median_ms(work, 3), work, "*" if attention.repeats else "") for work in attention.passes()]
        best = now if best is None else [min(pair, key=lambda timed: timed[0]) for pair in zip(best, now)]
    return best and [timed[1:] for timed in best]


def main():
    if not torch.cuda.is_available():
        return say(f"n/a: PyTorch {torch.__version__} sees no CUDA device")
    warnings.simplefilter("ignore")  # each refusal is one
    clock, shape, passes = Clock(), None, {}
    say(f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    for line in sys.stdin:
        *wanted, launches = map(int, line.split())
        if wanted != shape:
            shape, passes = wanted, {}
            torch.cuda.empty_cache()
            passes = {name: fastest(name, shape, clock) for name in BACKENDS}
        answer = []
        for name, works in passes.items():
            times = [f"{clock.median_ms(work, launches):.5f}{mark}" for work, mark in works] if works else ["-", "-"]
            answer += [name, *times]
        say(" ".join(answer))


main()
