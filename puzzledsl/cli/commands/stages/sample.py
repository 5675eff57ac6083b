"""`pzl sample`: text that a parent writes."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, SetOption


def sample(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Let parents write the texts of `data d = sampled(p, tokens: 1M)`. Writes sampled/PARENT-DIGEST.jsonl.

    A line is a document, as tokens and as text. Interrupt it at any moment: finished batches are kept, and the text is the
    same as that of a run without a break.
    """
    from puzzledsl.cli import loading

    do_stage(loading.context(file, set_, build), "sample", names)
