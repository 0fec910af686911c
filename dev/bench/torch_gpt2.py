#!/usr/bin/env python3
"""PyTorch's side of `make check-gpu`: GPT-2 124M as well as torch.compile trains it on one GPU.

bfloat16 autocast, fused AdamW, clipping, attention by cuDNN where it takes the shape, the vocabulary padded to 50304.
The first line of output says what was chosen. Then, for each line on standard input, a block of steps is run and
answered with "MS ms TOKENS tokens/s", the median of its steps: dev/check_gpu.sh alternates it with Kiln's.
"""

import argparse
import contextlib
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pytorch_model import Model

GPT2 = dict(L=12, C=768, NH=12, NKV=12, HS=64, F=3072, V=50304, max_T=1024, norm="layernorm", mlp="gelu",
            position="learned", qkv_bias=True, linear_bias=True, tied_embeddings=True, norm_eps=1e-5, rope_theta=1e4)


def attention():
    """cuDNN's kernels where they run, flash attention else; as a context and its name."""
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
    def __init__(self, B, T, mode, context):
        torch.manual_seed(1)
        self.model = Model(GPT2).cuda()
        groups = [{"params": [p for p in self.model.parameters() if p.ndim > 1], "weight_decay": 0.1},
                  {"params": [p for p in self.model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
        self.loss = torch.compile(self.model, mode=mode)
        self.context, self.N = context, B * T
        self.batches = [torch.randint(0, 50257, (B, T + 1), device="cuda") for _ in range(2)]

    def step(self, i):
        batch = self.batches[i % 2]
        with self.context(), torch.autocast("cuda", torch.bfloat16):
            loss = self.loss(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def median_ms(self, steps):
        for i in range(3):
            self.step(i)
        torch.cuda.synchronize()
        times = []
        for i in range(steps):
            start = time.perf_counter()
            self.step(i)
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--modes", default="default,max-autotune-no-cudagraphs", help="compiled with each, the best kept")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch_gpt2.py: this PyTorch sees no CUDA device")
    torch.set_float32_matmul_precision("high")
    context, name = attention()
    best, best_ms, best_mode = None, float("inf"), ""
    for mode in args.modes.split(","):
        torch._dynamo.reset()
        trainer = Trainer(args.batch_size, args.seq_len, mode, context)
        ms = trainer.median_ms(5)
        if ms < best_ms:
            best, best_ms, best_mode = trainer, ms, mode
        del trainer
        torch.cuda.empty_cache()
    print(f"PyTorch {torch.__version__}, torch.compile mode {best_mode}, {name} attention", flush=True)
    for _ in sys.stdin:
        ms = best.median_ms(args.steps)
        print(f"{ms:.3f} ms {best.N / ms * 1e3:.0f} tokens/s", flush=True)


main()
