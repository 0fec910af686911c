#!/usr/bin/env python3
"""Kiln's tokenizer and its peers `tokenizers`, tiktoken and SentencePiece on this CPU: medians of interleaved processes.

Every measurement is a process of its own; the processes of one row are interleaved. Prints a table and writes it to
dev/bench/results/. The vocabulary is GPT-2's, out of the PyPI package openai-whisper.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from importlib import metadata

from bench import ROOT, commit, cpu_name

WORKER = ROOT / "dev/bench/peers/tokenizer_worker.py"


def run(command, threads):
    """Runs a measurement. Its output is a line of JSON, else the process as a whole is measured."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
    start = time.perf_counter()
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        out, err = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}\nbench: ended with exit code {process.returncode}: {err.strip()}")
    result = {"seconds": seconds, "peak": usage.ru_maxrss * 1024}
    if out.startswith("{"):
        result.update(json.loads(out))
    return result


def interleave(contenders, rounds, output=None):
    """{name: (command, threads)} -> {name: medians and extremes}. `output` is removed before each measurement."""
    results = {name: [] for name in contenders}
    names = list(contenders)
    for i in range(rounds):
        for name in names[i % len(names):] + names[: i % len(names)]:
            command, threads = contenders[name]
            if output:
                shutil.rmtree(output, ignore_errors=True)
            results[name].append(run(command, threads))
            print(f"bench:   {name}: {results[name][-1]['seconds']:.2f} s", file=sys.stderr)
    summary = {}
    for name, runs in results.items():
        seconds = [r["seconds"] for r in runs]
        summary[name] = {**runs[0], "seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "peak": max(r["peak"] for r in runs)}
    return summary


class Bench:
    def __init__(self, args):
        self.args, self.rows = args, []
        self.dir = args.build / "bench-tokenizer"
        self.dir.mkdir(parents=True, exist_ok=True)
        self.corpora = {name: args.corpora / f"{name}.txt" for name in ("english", "chinese")}
        if not all(path.exists() for path in self.corpora.values()):
            subprocess.run([sys.executable, ROOT / "dev/bench/make_corpora.py", args.corpora], check=True)
        self.ranks, self.gpt2 = self.vocabulary()

    def kiln(self, *command):
        return [self.args.build / "bin/kiln", *command]

    def vocabulary(self):
        found = list(self.dir.glob("openai_whisper*/whisper/assets/gpt2.tiktoken"))
        if not found:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d", self.dir, "openai-whisper==20250625"], check=True)
            subprocess.run(["tar", "xzf", *self.dir.glob("openai_whisper*.tar.gz"), "-C", self.dir], check=True)
            found = list(self.dir.glob("openai_whisper*/whisper/assets/gpt2.tiktoken"))
        directory = self.dir / "gpt2"
        run(self.kiln("tokenizer", "import", found[0], "--pre-tokenizer", "gpt2", "--special-tokens", "<|endoftext|>=50256", "--output", directory), 1)
        return found[0], directory

    def row(self, what, kiln, peer_name, peer, ratio, goal, more=""):
        cell = lambda r: f"{r['bytes'] / r['seconds'] / 1e6:.1f} ({r['seconds']:.2f} s, {r['least']:.2f}–{r['most']:.2f})"
        self.rows.append(f"| {what} | {cell(kiln)} | {peer_name}: {cell(peer)} | {ratio} | {goal} |{more}")
        print(self.rows[-1], file=sys.stderr)

    def train(self):
        for name, goal in (("english", "≥ 12"), ("chinese", "≥ 10; memory ≤ 0.3")):
            path, size = self.corpora[name], self.corpora[name].stat().st_size
            command = self.kiln("tokenizer", "train", "--input", path, "--vocab-size", "30000", "--output", self.dir / f"trained_{name}")
            result = interleave({"Kiln": (command, 2), "tokenizers": ([sys.executable, WORKER, "train", path, "30000"], 2)}, self.args.train_rounds)
            kiln, peer = {**result["Kiln"], "bytes": size}, result["tokenizers"]
            ratio = f"{peer['seconds'] / kiln['seconds']:.1f}; memory {kiln['peak'] / peer['peak']:.2f} ({kiln['peak'] / 1e9:.2f} of {peer['peak'] / 1e9:.2f} GB)"
            self.row(f"training, {name}, 30,000 tokens", kiln, "tokenizers", peer, ratio, goal)

    def encode_command(self, path, threads, size):
        return [self.args.build / "dev/bench/bench_tokenizer", self.gpt2, path, size, threads], threads

    def encode(self):
        for name, goals in (("english", {"tokenizers": "≥ 20", "tiktoken": "≥ 4"}), ("chinese", {"tokenizers": "≥ 10", "tiktoken": "≥ 3"})):
            path, size = self.corpora[name], 20_000_000
            result = interleave({
                "Kiln": self.encode_command(path, 1, size),
                "tokenizers": ([sys.executable, WORKER, "encode", "tokenizers", self.gpt2 / "tokenizer.json", path, size], 1),
                "tiktoken": ([sys.executable, WORKER, "encode", "tiktoken", self.ranks, path, size], 1)}, self.args.rounds)
            kiln = result["Kiln"]
            assert len({r["tokens"] for r in result.values()}) == 1, result
            for peer, goal in goals.items():
                self.row(f"encoding, {name}, one thread", kiln, peer, result[peer], f"{result[peer]['seconds'] / kiln['seconds']:.1f}", goal)
            all_of_it = path.stat().st_size  # 20 MB are a tenth of a second, in which the threads' caches are still cold
            result = interleave({"one": self.encode_command(path, 1, all_of_it), "two": self.encode_command(path, 2, all_of_it)}, self.args.rounds)
            one, two = result["one"], result["two"]
            self.row(f"encoding, {name}, two threads", two, "Kiln, one", one, f"{one['seconds'] / two['seconds']:.2f}", "≥ 1.8")

    def one_character(self):
        for name, character in (("a", "a"), ("space", " "), ("中", "中")):
            path = self.dir / "one_character.txt"
            path.write_text(character * (1_000_000 // len(character.encode())))
            result = interleave({"one": self.encode_command(path, 1, 10**7), "English": self.encode_command(self.corpora["english"], 1, 10**7)}, self.args.rounds)
            one, normal = result["one"], result["English"]
            ratio = one["seconds"] / one["bytes"] / (normal["seconds"] / normal["bytes"])
            self.row(f"encoding, 1 MB of {name}", one, "Kiln, English", normal, f"{ratio:.2f} of the time a byte", "≤ 5")

    def sentencepiece(self):
        for name, path in self.corpora.items():
            sample, directory = self.dir / f"{name}_5mb.txt", self.dir / f"sentencepiece_{name}"
            sample.write_bytes(path.read_bytes()[:5_000_000].rpartition(b"\n")[0])
            run(self.kiln("tokenizer", "train", "--type", "sentencepiece-bpe", "--byte-fallback", "--vocab-size", "16000", "--input", sample, "--output", directory), 2)
            result = run([self.args.build / "dev/bench/bench_sentencepiece", directory / "tokenizer.model", path, 10_000_000, self.args.rounds], 1)
            kiln, library = (dict(bytes=result["bytes"], seconds=statistics.median(s), least=min(s), most=max(s)) for s in (result["kiln"], result["library"]))
            self.row(f"encoding, SentencePiece BPE, {name}, one thread", kiln, "the library", library, f"{library['seconds'] / kiln['seconds']:.1f}", "≥ 4")

    def prepare(self):
        source = self.dir / "english.jsonl.zst"
        english, texts, begin = self.corpora["english"].read_bytes(), [], 0
        while begin < len(english):  # the documents that `encode_command` encodes
            end = english.find(b"\n", begin + 10_000) + 1 or len(english)
            texts.append(english[begin:end].decode())
            begin = end
        lines = "".join(json.dumps({"id": i, "text": text}, ensure_ascii=False) + "\n" for i, text in enumerate(texts))
        copies = 16  # so that start-up is a small part; the copies lie further apart than zstd looks back
        size = copies * len(english)
        subprocess.run(["zstd", "-q", "-f", "-o", source], input=lines.encode() * copies, check=True)
        plain = self.dir / "english16.txt"
        plain.write_bytes(english * copies)
        shards = self.dir / "shards"
        for threads in (1, 2):
            command = self.kiln("prepare", "--input", source, "--tokenizer", self.gpt2, "--output", shards, "--threads", threads)
            result = interleave({"prepare": (command, threads), "encode": self.encode_command(plain, threads, size)}, self.args.rounds, shards)
            kiln, pure = {**result["prepare"], "bytes": size}, result["encode"]
            ratio = kiln["bytes"] / kiln["seconds"] / (pure["bytes"] / pure["seconds"])
            self.row(f"jsonl.zst → shards, English, {threads} thread{'s' * (threads > 1)} and a reader", kiln, "encoding alone", pure, f"{ratio:.2f}", "≥ 0.8")

    def report(self, load):
        versions = {name: metadata.version(name) for name in ("tokenizers", "tiktoken")}
        sizes = ", ".join(f"{name} {path.stat().st_size / 1e6:.0f} MB" for name, path in self.corpora.items())
        return "\n".join([
            f"# Kiln's tokenizer and its peers on a CPU, {datetime.date.today()}", "",
            f"- {cpu_name()}, {os.cpu_count()} cores; Kiln {commit()}; {', '.join(f'{k} {v}' for k, v in versions.items())}, Python {platform.python_version()}",
            f"- load average at the start: {load:.2f}; medians of {self.args.rounds} rounds ({self.args.train_rounds} for training)",
            f"- corpora: {sizes}; dev/bench/make_corpora.py says what they are; encoding takes the first 20 MB, in documents of 10 kB, with GPT-2's vocabulary", "",
            "MB/s (median, least–most seconds). Training is `kiln tokenizer train` as a whole process, start and files included, and",
            "`train()` alone for tokenizers; both on two threads. `kiln prepare` is a whole process too; in addition to the threads that",
            "encode it has one that reads and decompresses.", "",
            "| what | Kiln | peer | ratio | goal |", "|---|---|---|---|---|", *self.rows, ""])


def main():
    sections = ["train", "encode", "one_character", "sentencepiece", "prepare"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--corpora", type=pathlib.Path, default=ROOT / "build/corpora")
    parser.add_argument("--only", choices=sections, nargs="+", help="these parts; writes no file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--train-rounds", type=int, default=3)
    args = parser.parse_args()
    load, bench = os.getloadavg()[0], Bench(args)
    for section in args.only or sections:
        print(f"bench: {section}", file=sys.stderr)
        getattr(bench, section)()
    text = bench.report(load)
    print(text)
    if not args.only:
        slug = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
        path = ROOT / "dev/bench/results" / f"{datetime.date.today()}-tokenizer-{slug}.md"
        path.write_text(text)
        print(f"bench: written to {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
