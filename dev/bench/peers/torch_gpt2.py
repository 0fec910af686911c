#!/usr/bin/env python3
"""PyTorch's side of `make check-gpu`: GPT-2 124M as well as torch.compile trains it on one GPU.

bfloat16 autocast, fused AdamW, clipping, attention by cuDNN where it takes the shape, the vocabulary padded to 50304.
The first line of output says what was chosen, and ends with the batch size: half of the given one, or a quarter and so
on, where PyTorch needs too much memory for more. Then, for each line on standard input, a block of steps is run and
answered with "MS ms TOKENS tokens/s", the median of its steps: dev/check_gpu.sh alternates it with Kiln's. Steps follow
each other without a wait, as Kiln's do. Between blocks the memory is given back.
"""

import argparse
import contextlib
import signal
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pytorch_model import Model

GPT2 = dict(L=12, C=768, NH=12, NKV=12, HS=64, F=3072, V=50304, max_T=1024, norm="layernorm", mlp="gelu",
            position="learned", qkv_bias=True, linear_bias=True, tied_embeddings=True, norm_eps=1e-5, rope_theta=1e4)


def attention(device):
    """cuDNN's kernels where they run, flash attention else; as a context and its name."""
    if device == "cpu":
        return contextlib.nullcontext, "PyTorch's choice of"
    q = torch.randn(1, 12, 1024, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    for backend, name in ((SDPBackend.CUDNN_ATTENTION, "cuDNN"), (SDPBackend.FLASH_ATTENTION, "flash")):
        try:
            with sdpa_kernel(backend):
                torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
            return lambda: sdpa_kernel(backend), name
        except RuntimeError:
            pass
    return contextlib.nullcontext, "PyTorch's choice of"


class Trainer:
    def __init__(self, B, T, mode, context, device, layers):
        torch.manual_seed(1)
        self.model = Model(GPT2 | dict(L=layers)).to(device)
        groups = [{"params": [p for p in self.model.parameters() if p.ndim > 1], "weight_decay": 0.1},
                  {"params": [p for p in self.model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
        self.loss = torch.compile(self.model, mode=mode)
        self.context, self.N, self.device = context, B * T, device
        self.batches = [torch.randint(0, 50257, (B, T + 1), device=device) for _ in range(2)]

    def step(self, i):
        batch = self.batches[i % 2]
        with self.context(), torch.autocast(self.device, torch.bfloat16):
            loss = self.loss(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def median_ms(self, steps):
        for i in range(3):
            self.step(i)
        if self.device == "cpu":
            ends = [time.perf_counter()] + [(self.step(i), time.perf_counter())[1] for i in range(steps)]
            return 1e3 * statistics.median(b - a for a, b in zip(ends, ends[1:]))
        ends = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        ends[0].record()
        for i in range(steps):
            self.step(i)
            ends[i + 1].record()
        torch.cuda.synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in zip(ends, ends[1:]))


def make_trainer(B, T, mode, context, device, layers):
    """Compiled, with the time of its steps; with the largest batch that fits."""
    while True:
        try:
            trainer = Trainer(B, T, mode, context, device, layers)
            return trainer, trainer.median_ms(5)
        except torch.cuda.OutOfMemoryError:
            if B == 1:
                raise
        B //= 2
        trainer = None
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def out_of_time(*_):
    raise TimeoutError("its time is up")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--modes", default="default,max-autotune-no-cudagraphs", help="compiled with each, the best kept")
    parser.add_argument("--mode-seconds", type=int, default=120, help="for each mode but the first; one that takes longer is left out")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try this script")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_gpt2.py: this PyTorch sees no CUDA device")
    torch.set_float32_matmul_precision("high")
    signal.signal(signal.SIGALRM, out_of_time)
    context, name = attention(args.device)
    best, best_ms, best_mode = None, float("inf"), ""
    for mode in args.modes.split(","):
        torch._dynamo.reset()
        try:
            signal.alarm(args.mode_seconds if best else 0)
            trainer, ms = make_trainer(args.batch_size, args.seq_len, mode, context, args.device, args.layers)
            signal.alarm(0)
        except Exception as error:  # torch.compile wraps the alarm's in its own
            signal.alarm(0)
            if best is None:
                raise
            print(f"torch_gpt2.py: without mode {mode}: {error}", file=sys.stderr)
            continue
        if best is None or ms / trainer.N < best_ms / best.N:
            best, best_ms, best_mode = trainer, ms, mode
        del trainer
        if args.device == "cuda":
            torch.cuda.empty_cache()
    print(f"PyTorch {torch.__version__}, torch.compile mode {best_mode}, {name} attention, "
          f"B = {best.N // args.seq_len}", flush=True)
    for _ in sys.stdin:
        ms = best.median_ms(args.steps)
        print(f"{ms:.3f} ms {best.N / ms * 1e3:.0f} tokens/s", flush=True)
        if args.device == "cuda":
            torch.cuda.empty_cache()


main()
