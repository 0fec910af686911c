#!/usr/bin/env python3
"""Compares MPI processes of one thread with one process of one thread: the same training step, divided among them.

The two take turns. Each turn starts new processes, because a rank that waits for the others keeps a core busy. The
speed-up is the median of the step of one process, divided by that of several.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A container has one user, few cores and no tool that starts processes on other machines.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_plm": "isolated", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}


def turn(command, steps):
    """The milliseconds of each step but the first, which warms up."""
    run = subprocess.run([str(part) for part in command], input="run\n" * (steps + 1), capture_output=True, text=True,
                         env={**os.environ, **ENVIRONMENT})
    if run.returncode != 0:
        sys.exit(f"bench-ranks: {' '.join(map(str, command))}: {(run.stderr or run.stdout).strip()}")
    return [json.loads(line)["ms"] for line in run.stdout.splitlines()[2:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=pathlib.Path, default=ROOT / "build/dev/bench/bench_engine")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--model", default="llama-tiny")
    parser.add_argument("--shape", type=int, nargs=2, default=[8, 256], metavar=("B", "T"), help="of the whole batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if not shutil.which("mpirun") or cores < args.ranks:
        print(f"bench-ranks: skipped: {args.ranks} ranks need as many cores, and mpirun (the package openmpi-bin)")
        return
    work = [args.engine, "step", args.model, *args.shape]
    mpi = ["mpirun", "-np", args.ranks, "--bind-to", "none", *work, "--mpi"]
    load, one, several = os.getloadavg()[0], [], []
    for i in range(args.rounds):
        for ms, command in [(one, work), (several, mpi)][:: 1 if i % 2 == 0 else -1]:
            ms += turn(command, args.steps)
    cell = [f"{statistics.median(ms):.1f} ({min(ms):.1f}–{max(ms):.1f})" for ms in (one, several)]
    print(f"Load average at the start: {load:.2f}, on {cores} cores. Milliseconds: median (minimum–maximum).\n")
    print(f"| training step, threads of a process: 1 | one process | {args.ranks} MPI processes | speed-up |")
    print("|---|---|---|---|")
    print(f"| {args.model}, B={args.shape[0]}, T={args.shape[1]} | {cell[0]} | {cell[1]} | "
          f"{statistics.median(one) / statistics.median(several):.2f} |")
    if load > 0.5:
        print("\nThe machine was busy, so these are not its speeds.")


if __name__ == "__main__":
    main()
