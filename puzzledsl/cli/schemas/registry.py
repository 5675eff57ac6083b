"""Every kind of JSON document that puzzledsl writes: the build directory's files, then the `--json` outputs."""

from __future__ import annotations

from puzzledsl.cli.schemas import children, files, programs
from puzzledsl.cli.schemas.described import Described
from puzzledsl.ir import tables
from puzzledsl.ir.nodes import Program
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.pipeline.stamps import Stamp

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
        tables.Refinement | tables.RefinedFrontier,
        about="Children that were measured around a search's answer, or along a frontier.",
    ),
    Described("why", "why/*.json", tables.WhyResult),
    Described("evaluation", "evals/*.json", tables.Evaluation),
    Described("sampled", "sampled/*.jsonl", tables.WrittenText, "JSON lines"),
    Described("engine-check", "engines/*.json", tables.EngineCheck),
    Described("uptrain", "models/*/uptrain.json", files.UptrainRecord),
    Described("stamp", "stamps/*.json", Stamp),
    Described("failure", "failures/*.json", tables.Failure),
    Described("holder", ".holder.json", Holder),
    Described("log", "log.jsonl", files.LogLine, "JSON lines"),
)
"""Files of a build directory."""

OUTPUTS = (
    Described("pzl-check", "pzl check", programs.Diagnostics),
    Described("pzl-show", "pzl show", programs.Spaces),
    Described("pzl-plan", "pzl plan", programs.ProgramChanges),
    Described("pzl-compile", "pzl compile", programs.Compiled),
    Described(
        "pzl-cost",
        "pzl cost",
        list[programs.CostBreakdown],
        about="A breakdown for each scenario and model that was asked for.",
    ),
    Described("pzl-calibrate", "pzl calibrate", programs.Calibrated),
    Described(
        "pzl-solve",
        "pzl solve",
        list[children.Answer],
        about="The answer of each search; with `--baselines` those of its baselines behind it, as `SEARCH:BASELINE`.",
    ),
    Described("pzl-why", "pzl why", tables.WhyResult),
    Described("pzl-explore", "pzl explore", children.Address),
    Described(
        "pzl-frontier", "pzl frontier", list[children.FrontierAnswers], about="Each frontier with its points."
    ),
    Described("pzl-run", "pzl run", children.DryRun),
    Described(
        "pzl-status",
        "pzl status",
        children.Status | children.Maker,
        about="All tasks; with `--made-by PATH` the task that left this file.",
    ),
    Described(
        "pzl-refine",
        "pzl refine",
        list[tables.Refinement | tables.RefinedFrontier],
        about="The files `refined/NAME.json` of the searches and frontiers that were named.",
    ),
    Described("pzl-verify-export", "pzl verify-export", tables.EngineCheck),
    Described(
        "pzl-library-ls",
        "pzl library ls",
        list[children.PieceRow],
        about="Each piece, by layer and sub-block.",
    ),
    Described("pzl-library-verify", "pzl library verify", children.Verified),
    Described("pzl-library-gc", "pzl library gc", children.Collected),
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
    "board/": "Events for TensorBoard, where it is installed.",
    "report.html": "The report, one page without further files.",
}
"""Files of a build directory that are not JSON, or not ours: path -> content, in Markdown."""

DESCRIBED = {each.name: each for each in (*FILES, *OUTPUTS)}
