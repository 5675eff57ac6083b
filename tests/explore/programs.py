"""Programs that the page is tested with: bounds of every kind, in every place."""

from pathlib import Path

from puzzledsl.explore.desk import Desk
from puzzledsl.explore.sheet import Sheet
from tests.api.programs import PROGRAM, write_program

VARIED = (
    PROGRAM[: PROGRAM.index("\n  require layers[0]")]
    + """  # the fleet is large
  require 80GiB >= chat.memory
  require 0.2x <= params <= 100% * llama.params
  require count(attention is noop) <= 4, require 2 * chat.throughput >= 3 tok/s
  require layers[0].attention is parent
  require distinct(ffn) <= 2
  require chat.memory <=
    200 * chat.weights
  for i in 2..4 { require layers[i].ffn.width <= 4096 }
  require params + 1M <= 180M
}
search inline of wide { minimize kl, require chat.throughput >= 1.2x }
search heir of inline { maximize params }
"""
)


def desk_of(folder: Path, text: str = VARIED) -> Desk:
    """A desk with a program that needs no weights."""
    return Desk(write_program(folder, text), None, {})


def sheet_of(folder: Path, search: str = "best", text: str = VARIED) -> Sheet:
    return desk_of(folder, text).sheet(search)
