"""Every kind of JSON document that puzzledsl writes: the build directory's files, then the `--json` outputs."""

from __future__ import annotations

from typing import Any

from puzzledsl.cli.schemas import described as files
from puzzledsl.cli.schemas import outputs as children
from puzzledsl.cli.schemas import outputs as programs
from puzzledsl.cli.schemas.described import Described
from puzzledsl.ir import tables
from puzzledsl.ir.nodes import Program
from puzzledsl.pipeline.compile import Compiled
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.pipeline.stamps import Stamp

Refined = tables.Refinement | tables.RefinedFrontier
"""Content of a file `refined/NAME.json`: of a search, or of a frontier."""

FILES = (
    Described("ir", "ir.json", Program),
    Described("bld-job", "bld/*.jsonl", tables.BldJob, "JSON lines"),
    Described("costs", "costs/*.json", tables.CostTable),
    Described("piece", "library/index.jsonl", files.PieceLine, "JSON lines"),
    Described("scores", "scores/*.json", tables.ScoreTable),
    Described("figures", "scores/figures/*.jsonl", files.FiguresLine, "sealed JSON lines"),
    Described("solution", "solutions/*.json", tables.SearchResult),
    Described("frontier", "search/*.json", tables.FrontierResult),
    Described(
        "refinement",
        "refined/*.json",
        Refined,
        about="Children that were measured around a search's answer, or along a frontier.",
    ),
    Described("why", "why/*.json", tables.WhyResult),
    Described("evaluation", "evals/*.json", tables.Evaluation),
    Described("sampled", "sampled/*.jsonl", tables.WrittenText, "JSON lines"),
    Described("engine-check", "engines/*.json", tables.EngineCheck),
    Described("load-check", "load/*.json", tables.LoadCheck),
    Described("uptrain", "models/*/uptrain.json", files.UptrainRecord),
    Described("stamp", "stamps/*.json", Stamp),
    Described("failure", "failures/*.json", tables.Failure),
    Described("holder", ".holder.json", Holder),
    Described("log", "log.jsonl", files.LogLine, "JSON lines"),
)
"""Files of a build directory."""


def output(command: str, kind: Any, about: str = "") -> Described:
    """Return the description of the `--json` output of `pzl COMMAND`, named after the command: `pzl-library-ls`."""
    return Described(f"pzl-{command.replace(' ', '-')}", f"pzl {command}", kind, about=about)


OUTPUTS = (
    output("check", programs.Diagnostics),
    output("show", programs.Spaces),
    output("plan", programs.ProgramChanges),
    output("compile", Compiled),
    output(
        "cost", list[programs.CostBreakdown], "A breakdown for each scenario and model that was asked for."
    ),
    output(
        "solve",
        list[children.Answer | children.NotSolved],
        "The answer of each search; with `--baselines` those of its baselines behind it, as `SEARCH:BASELINE`.",
    ),
    output("why", tables.WhyResult),
    output("explore", children.Address),
    output("frontier", list[children.FrontierAnswers], "Each frontier with its points."),
    output("run", children.DryRun),
    output("status", children.Status),
    output(
        "refine",
        list[Refined],
        "The files `refined/NAME.json` of the searches and frontiers that were named.",
    ),
    output("verify-export", tables.EngineCheck),
    output("verify-load", tables.LoadCheck),
    output("library ls", list[children.PieceRow], "Each piece, by layer and sub-block."),
    output("library verify", children.Verified),
    output("library gc", children.Collected),
)
"""Outputs of commands with `--json`."""

OTHERS = {
    "search/*.pb": "The CP-SAT model of a search: a binary `CpModelProto` ([how to load it](search.md#the-model-for-or-tools)).",
    "search/*.csv": "A frontier's points, one a row.",
    "search/*.svg": "A frontier as a picture.",
    "costs/*.csv": "Measured costs as a table that `table(…)` reads.",
    "library/*.safetensors": "The weights of one piece, with its job in the header.",
    "models/*/": "A child: a checkpoint that transformers loads, with its own README.md.",
    "tokens/*.npy": "Tokenised text, by digest: a NumPy array with a SHA-256 of its content at the end.",
    "work/": "Unfinished work, from which a stage resumes; removed when it ends. Its layout may change with any version.",
    "report.html": "The report, one page without further files.",
}
"""Files of a build directory that are not JSON, or not ours: path -> content, in Markdown."""

DESCRIBED = {each.name: each for each in (*FILES, *OUTPUTS)}
