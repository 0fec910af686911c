#!/usr/bin/env python3
"""PyTorch's side of the benchmark: reads "step" or "gen" on standard input and answers with milliseconds.

A persistent process, so that warm-up, compilation and allocation are not in the figures; bench.py alternates it with
Kiln's, build/dev/bench/bench_engine, which speaks the same protocol.
"""

import argparse
import json
import sys
import time

import torch

from pytorch_model import Model


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


class Trainer:
    def __init__(self, model, B, T, compiled):
        groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
                  {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
        self.loss = torch.compile(model) if compiled else model
        sequence = torch.randint(0, model.c["V"], (B, T + 1))
        self.tokens, self.targets = sequence[:, :-1].contiguous(), sequence[:, 1:].contiguous()

    def __call__(self):
        loss = self.loss(self.tokens, self.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


class Generator:
    """`count` greedy tokens after a prompt, batch 1; the cache is allocated once and written in place."""

    def __init__(self, model, prompt, count, compiled):
        c = model.c
        self.model, self.count = model.eval(), count
        self.caches = torch.zeros(c["L"], 2, 1, c["NKV"], prompt + count, c["HS"])
        self.prompt = torch.randint(0, c["V"], (1, prompt))
        self.next = torch.compile(model.next_logits, dynamic=True) if compiled else model.next_logits

    @torch.inference_mode()
    def __call__(self):
        token, at = self.prompt, 0
        for _ in range(self.count):
            logits = self.next(token, self.caches, at)
            at += token.shape[1]
            token = logits.argmax(-1, keepdim=True)
        return token.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=["step", "gen"])
    parser.add_argument("--config", type=json.loads, required=True, help="the model, as bench_engine prints it")
    parser.add_argument("--shape", type=int, nargs=2, required=True, help="B T, or prompt and new tokens")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    model = Model(args.config)
    make = Trainer if args.workload == "step" else Generator
    work = make(model, *args.shape, args.compile)
    hello = {"parameters": sum(p.numel() for p in model.parameters()), "version": torch.__version__}
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        if line.strip() == "run":
            start = time.perf_counter()
            value = work()
            print(json.dumps({"ms": 1e3 * (time.perf_counter() - start), "value": value}), flush=True)
        elif line.strip() == "peak":
            print(json.dumps({"peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
