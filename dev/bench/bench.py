#!/usr/bin/env python3
"""Compares Kiln with PyTorch on this CPU: medians and their ratio, from interleaved processes.

For each workload it starts and warms up three workers: Kiln, PyTorch, and PyTorch with torch.compile. Then the workers
do one unit of work each, interleaved. The faster PyTorch worker is compared with Kiln. Prints a table and writes it to
dev/bench/results/.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Settings that make PyTorch faster. Without the first four, malloc gives the memory of the activations back after every
# step, and it is mapped and cleared again (GPT-2: 886 ms per step, 772 ms with them). The last one makes waiting threads
# sleep soon, as Kiln's programs do; it matters only on a busy machine. Values that are already set are kept.
PYTORCH_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30), "MALLOC_TOP_PAD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "GOMP_SPINCOUNT": "1000",
}
PLAN_TOLERANCE = 0.05  # between the peak memory and the prediction of plan_memory


@dataclasses.dataclass
class Workload:
    kind: str  # step: shape is B, T; gen: shape is prompt, new tokens
    model: str
    shape: tuple
    rounds: int

    def title(self):
        a, b = self.shape
        return (f"{self.model}, training step, B={a}, T={b}" if self.kind == "step"
                else f"{self.model}, generating {b} tokens after {a}")

    def tokens(self):
        return self.shape[0] * self.shape[1] if self.kind == "step" else self.shape[1]


WORKLOADS = [
    Workload("step", "gpt2", (4, 64), 15),
    Workload("step", "llama-tiny", (8, 256), 21),
    Workload("gen", "gpt2", (16, 64), 11),
    Workload("gen", "llama-tiny", (16, 64), 31),
]


class Died(Exception):
    pass


class Worker:
    """A process that answers each line with a line of JSON."""

    def __init__(self, name, command, environment):
        self.name, self.ms = name, []
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.hello = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Died(f"{self.name}: the worker ended with exit code {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() reports the reason
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def start(workload, args, environment):
    """Kiln's worker and the PyTorch workers that run here, warmed up, with the same model."""
    shape = [str(n) for n in workload.shape]
    kiln = Worker("Kiln", [args.engine, workload.kind, workload.model, *shape], environment)
    workers = [kiln]
    for name, flags in [("PyTorch", []), ("PyTorch compiled", ["--compile"])]:
        command = [sys.executable, ROOT / "dev/bench/peers/pytorch_worker.py", workload.kind, "--config",
                   json.dumps(kiln.hello["config"]), "--shape", *shape, "--threads", args.threads, *flags]
        try:
            worker = Worker(name, command, {**PYTORCH_ENVIRONMENT, **environment})
            worker.ask("run")  # compiles
        except Died as error:
            print(f"bench: left out: {error}", file=sys.stderr)
            continue
        assert worker.hello["parameters"] == kiln.hello["parameters"], (worker.hello, kiln.hello)
        workers.append(worker)
    for worker in workers:
        for _ in range(args.warm_up):
            worker.ask("run")
    return workers


def measure(workload, args, environment):
    workers = start(workload, args, environment)
    if len(workers) == 1:
        raise Died("PyTorch does not run here; remove build/venv and run `make bench` again")
    for i in range(args.rounds or workload.rounds):
        for worker in workers[i % len(workers):] + workers[: i % len(workers)]:  # the order rotates
            time.sleep(0.02)  # so that the threads of the last worker stop spinning
            worker.ms.append(worker.ask("run")["ms"])
    for worker in workers:
        worker.peak = worker.ask("peak")["peak_bytes"]
        worker.median = statistics.median(worker.ms)
        worker.close()
    return workers


def cpu_name():
    with open("/proc/cpuinfo") as info:
        fields = dict(line.split(":", 1) for line in info if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    name = re.sub(r"\((R|TM)\)", "", fields.get("model name", platform.machine())).strip()
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"


def commit():
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return git.stdout.strip() or "unknown"


def speed_rows(results):
    yield "| workload | Kiln | PyTorch | PyTorch compiled | Kiln, tokens/s | speed, Kiln / PyTorch |"
    yield "|---|---|---|---|---|---|"
    for workload, workers in results:
        cell = {w.name: f"{w.median:.1f} ({min(w.ms):.1f}–{max(w.ms):.1f})" for w in workers}
        ratio = min(w.median for w in workers[1:]) / workers[0].median
        yield (f"| {workload.title()} | {cell['Kiln']} | {cell.get('PyTorch', 'n/a')} | "
               f"{cell.get('PyTorch compiled', 'n/a')} | {workload.tokens() / workers[0].median * 1e3:.0f} | {ratio:.2f} |")


def memory_rows(results):
    yield "| training | Kiln, planned | Kiln, peak | peak / planned | PyTorch, peak | PyTorch compiled, peak |"
    yield "|---|---|---|---|---|---|"
    for workload, workers in results:
        if workload.kind != "step":
            continue
        planned, peak = workers[0].hello["planned_bytes"], {w.name: w.peak for w in workers}
        other = [f"{peak[name] / 2**20:.0f}" if name in peak else "n/a" for name in ["PyTorch", "PyTorch compiled"]]
        off = abs(peak["Kiln"] / planned - 1) > PLAN_TOLERANCE
        yield (f"| {workload.model} | {planned / 2**20:.0f} | {peak['Kiln'] / 2**20:.0f} | "
               f"{peak['Kiln'] / planned:.3f}{' (more than 5 % off)' if off else ''} | {other[0]} | {other[1]} |")


def report(results, args, load):
    device, torch = results[0][1][0].hello["device"], results[0][1][1].hello["version"]
    return "\n".join([
        f"# Kiln compared with PyTorch on a CPU, {datetime.date.today()}", "",
        f"- {cpu_name()}, {os.cpu_count()} cores; {args.threads} threads each; Kiln's device: {device}",
        f"- Kiln {commit()}; PyTorch {torch}, Python {platform.python_version()}; {platform.platform(terse=True)}",
        f"- load average at the start: {load:.2f}", "",
        "Milliseconds: median (minimum–maximum) of interleaved processes in one run, float32, random weights. The last",
        "column is the median of the faster PyTorch divided by that of Kiln: above 1, Kiln is faster. A training step is",
        "forward, backward, gradient norm, clipping and AdamW; generation is greedy, batch 1, with a KV cache. malloc keeps",
        "memory and uses huge pages (see bench.py), which makes PyTorch faster.", "",
        *speed_rows(results), "",
        "Peak memory of the training processes, MiB, and the prediction of `--dry-run`:", "",
        *memory_rows(results), ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=pathlib.Path, default=ROOT / "build/dev/bench/bench_engine")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", help="run only the workloads with a title that matches this regular expression; write no file")
    parser.add_argument("--rounds", type=int, help="units of work per worker (default: set by the workload)")
    parser.add_argument("--warm-up", type=int, default=3)
    args = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "MKL_NUM_THREADS": str(args.threads)}
    load, results = os.getloadavg()[0], []
    for workload in WORKLOADS:
        if args.only and not re.search(args.only, workload.title()):
            continue
        print(f"bench: {workload.title()}", file=sys.stderr)
        try:
            results.append((workload, measure(workload, args, environment)))
        except (Died, OSError) as error:
            sys.exit(f"bench: {error}")
    if not results:
        sys.exit(f"bench: --only {args.only}: no workload has a title that matches")
    text = report(results, args, load)
    print(text)
    if not args.only:
        slug = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
        path = ROOT / "dev/bench/results" / f"{datetime.date.today()}-{slug}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(f"bench: written to {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
