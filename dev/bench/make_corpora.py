#!/usr/bin/env python3
"""Writes the corpora of `make bench-tokenizer`: build/corpora/english.txt (69 MB) and chinese.txt (100 MB).

    build/venv/bin/python dev/bench/make_corpora.py [DIRECTORY]

English: paragraphs of prose, each once, in an order drawn from a seed: the documentation strings of the Python packages
of dev/fixtures/requirements.txt, the kernel's documentation as Debian packages it, then manual pages of this machine up
to 69 MB. What there is depends on the machine: the sizes are printed, and published results name them.
Chinese: no package carries 100 MB of it. Words are drawn by
the frequencies of jieba's dictionary (349,046 words) into clauses, sentences and paragraphs as long as those of novels:
the words and their frequencies are real, what follows what is not.
"""
import ast
import gzip
import hashlib
import pathlib
import random
import re
import shutil
import subprocess
import sys

import jieba
import numpy

ENGLISH_BYTES, CHINESE_BYTES = 69_000_000, 100_000_000
SITE_PACKAGES = pathlib.Path(jieba.__file__).parents[1]


def docstrings():
    for path in sorted(SITE_PACKAGES.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield ast.get_docstring(node) or ""


def manual_pages():
    for path in sorted(pathlib.Path("/usr/share/man").glob("man[1-8]/*.gz")):
        try:
            page = gzip.decompress(path.read_bytes()).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        # The text of roff: without requests, fonts and escapes; a request for a paragraph ends one.
        page = re.sub(r"^[.'](PP|P|LP|SH|SS|TP|IP|br|sp)\b.*$", "\n", page, flags=re.M)
        page = re.sub(r"^[.'].*\n", "", page, flags=re.M)
        page = re.sub(r"\\f(\[[^]]*\]|\(..|.)|\\[&%|^,/:]|\\s[-+]?\d", "", page)
        yield page.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")


def kernel_documentation(directory):
    """Of Debian's package linux-doc-6.1, unpacked, not installed; nothing where there is no apt."""
    package = directory / "linux-doc"
    if not package.exists() and shutil.which("apt-get"):
        subprocess.run(["apt-get", "download", "-qq", "linux-doc-6.1"], cwd=directory, check=True)
        subprocess.run(["dpkg-deb", "-x", *directory.glob("linux-doc-6.1_*.deb"), package], check=True)
    for path in sorted(package.rglob("*.gz")):
        if "translations" not in path.parts:
            yield gzip.decompress(path.read_bytes()).decode("utf-8", errors="ignore")


def is_prose(paragraph):
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    return len(paragraph) > 60 and letters > 0.75 * len(paragraph)


def english(directory):
    seen, total, sizes, paragraphs = set(), 0, {}, []
    for source, texts in (('docstrings', docstrings()), ('linux-doc-6.1', kernel_documentation(directory)), ('manual pages', manual_pages())):
        for text in texts:
            for paragraph in re.split(r"\n\s*\n", text):
                digest = hashlib.blake2b(paragraph.encode(), digest_size=12).digest()
                if total >= ENGLISH_BYTES or digest in seen or not is_prose(paragraph):
                    continue
                seen.add(digest)
                paragraphs.append(paragraph.strip("\n") + "\n\n")
                size = len(paragraphs[-1].encode())
                total += size
                sizes[source] = sizes.get(source, 0) + size
    random.Random(1).shuffle(paragraphs)
    print("english:", sizes)
    return "".join(paragraphs)


def chinese(_):
    entries = [line.split(" ") for line in (pathlib.Path(jieba.__file__).parent / "dict.txt").read_text(encoding="utf-8").splitlines()]
    words = numpy.array([entry[0] for entry in entries], dtype=object)
    weights = numpy.array([float(entry[1]) for entry in entries])
    rng = numpy.random.default_rng(2)
    parts, total = [], 0
    while total < CHINESE_BYTES:
        drawn = rng.choice(words, size=200_000, p=weights / weights.sum())
        lengths = 2 + rng.poisson(3, size=100_000)  # words of a clause
        marks = rng.choice(["，", "。", "、", "？", "！", "；", "：“", "。”\n", "。\n"], size=100_000, p=[0.52, 0.2, 0.06, 0.03, 0.03, 0.02, 0.03, 0.03, 0.08])
        at, clauses = 0, []
        for length, mark in zip(lengths, marks):
            if at + length > len(drawn):
                break
            clauses += ["".join(drawn[at : at + length]), mark]
            at += length
        parts.append("".join(clauses))
        total += len(parts[-1].encode())
    print("chinese: words of jieba", jieba.__version__)
    return "".join(parts)


def main():
    directory = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/corpora")
    directory.mkdir(parents=True, exist_ok=True)
    for make in (english, chinese):
        data = make(directory).encode()
        path = directory / f"{make.__name__}.txt"
        path.write_bytes(data)
        print(f"{path}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
