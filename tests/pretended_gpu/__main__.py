"""Run a module with a pretended GPU: `python -m tests.pretended_gpu [--memory BYTES] [--report FILE] -m MODULE …`."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from tests.pretended_gpu.children import reported
from tests.pretended_gpu.gpu import GIB


def main() -> None:
    """Run the module as `python -m` would."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=int, default=80 * GIB)
    parser.add_argument("--report", type=Path)
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, required=True)
    given = parser.parse_args()
    sys.argv = list(given.module)
    with reported(given.report, given.memory):
        runpy.run_module(given.module[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
