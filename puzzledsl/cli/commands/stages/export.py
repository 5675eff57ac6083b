"""`pzl export`: children for other tools."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, SetOption


def export(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Write children where the program says, each for its runtime: hf (transformers, vLLM, Megatron), gguf or mlx."""
    from puzzledsl.cli import loading

    do_stage(loading.context(file, set_, build), "export", names)
