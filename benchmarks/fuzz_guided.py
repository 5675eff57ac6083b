"""Fuzzing that Atheris guides: it keeps the inputs that reach new code and goes on from those (needs `pip install atheris`).

python -m benchmarks.fuzz_guided [--inputs 20000]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["puzzledsl"]):
    from benchmarks.fuzz import Figures, scratch
    from tests.fuzz.inputs import WORDS, seeds

MAX_BYTES = 1500


def main() -> None:
    """Set Atheris going; it never returns, so the last input ends the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=20_000)
    count = parser.parse_args().inputs
    figures, start = Figures(), time.process_time()
    with scratch() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(dict.fromkeys(seeds())):
            (corpus / f"{number}.pzl").write_bytes(data[:MAX_BYTES])
        words = [w for w in WORDS if w.isascii() and w.isprintable() and not set(w) & {'"', "\\"}]
        (folder / "words.dict").write_text("".join(f'"{w}"\n' for w in words if len(w) > 1), "ascii")

        def one(data: bytes) -> None:
            figures.take("chosen by Atheris", data, folder / "input.pzl")
            if figures.inputs.total() == count:
                figures.report(start)
                os._exit(0)

        options = [f"-dict={folder / 'words.dict'}", f"-max_len={MAX_BYTES}", "-timeout=120", str(corpus)]
        atheris.Setup(["fuzz", *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
