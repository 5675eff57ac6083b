"""Every kind of JSON document in a build directory, for `pzl schema` and docs/artefacts.md, by the models that read them."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter

from puzzledsl.base.frozen import record
from puzzledsl.ir import tables
from puzzledsl.ir.base import FORMAT_VERSION
from puzzledsl.ir.nodes import Program
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.pipeline.stamps import Stamp


class Strict(BaseModel):
    """Content of a document that is not read back."""

    model_config = ConfigDict(extra="forbid")


class LogLine(BaseModel):
    """One event of a run: `start`, `progress`, `end`, `fresh` of a task, and what stages report. Events have own fields."""

    model_config = ConfigDict(extra="allow")

    time: str
    event: str
    stage: str | None = None
    name: str | None = None
    seconds: float | None = None
    text: str | None = None


class FiguresKey(Strict):
    """The first line: everything that the figures depend on, as JSON in a text."""

    key: str


class FiguresLine(RootModel[FiguresKey | tuple[int, str, str, dict[str, float]]]):
    """The layer, the table, the alternative, and what was measured under each name; the first line is the key."""


class UptrainRecord(Strict):
    """Record of an uptraining. KLs to the parent in nats on held-out text; `best_step` is the step whose weights were kept."""

    uptrain: str
    dtype: str
    peak_rate: float
    steps: int
    tokens: int
    heldout_tokens: int
    heldout_kl: dict[str, float]
    heldout_kl_before: float
    heldout_kl_after: float
    best_step: int


class PieceLine(tables.Piece):
    """A piece, with the first 16 digits of the SHA-256 of the rest of the line, so that a changed one is noticed."""

    check: str


Form = Literal["JSON", "JSON lines", "sealed JSON lines"]
"""A sealed line ends with a tab and the first 16 digits of its SHA-256, so that a torn line is noticed."""


@record
class Described:
    """One kind of document.

    `place`: a file of the build directory with `*` for a name. `kind`: the model, or type, of the document; of one line where
    the form has lines.
    """

    name: str
    place: str
    kind: Any
    form: Form = "JSON"

    @property
    def text(self) -> str:
        """Description of the content in a sentence or two."""
        return " ".join((self.kind.__doc__ or "").split("\n\n")[0].split())

    def holds(self, relative: str) -> bool:
        """True if a path, relative to the build directory, is of this kind. A `*` matches within one folder."""
        pattern = translate(self.place).replace(".*", "[^/]*")
        return re.match(pattern, relative) is not None

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """The reader of a document."""
        return TypeAdapter(self.kind)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema. The same program gives the same bytes."""
        written = isinstance(self.kind, type) and not issubclass(self.kind, Strict)
        made = self.adapter.json_schema(mode="serialization" if written else "validation")
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:puzzledsl:schema:{self.name}-{FORMAT_VERSION}",
            **made,
        }


FILES = (
    Described("ir", "ir.json", Program),
    Described("bld-job", "bld/*.jsonl", tables.BldJob, "JSON lines"),
    Described("costs", "costs/*.json", tables.CostTable),
    Described("piece", "library/index.jsonl", PieceLine, "JSON lines"),
    Described("scores", "scores/*.json", tables.ScoreTable),
    Described("figures", "scores/figures/*.jsonl", FiguresLine, "sealed JSON lines"),
    Described("solution", "solutions/*.json", tables.SearchResult),
    Described("frontier", "search/*.json", tables.FrontierResult),
    Described("refinement", "refined/*.json", tables.Refinement),
    Described("why", "why/*.json", tables.WhyResult),
    Described("evaluation", "evals/*.json", tables.Evaluation),
    Described("engine-check", "engines/*.json", tables.EngineCheck),
    Described("load-check", "load/*.json", tables.LoadCheck),
    Described("uptrain", "models/*/uptrain.json", UptrainRecord),
    Described("stamp", "stamps/*.json", Stamp),
    Described("failure", "failures/*.json", tables.Failure),
    Described("holder", ".holder.json", Holder),
    Described("log", "log.jsonl", LogLine, "JSON lines"),
)
"""Files of a build directory."""


COMMANDS = {
    "why": "why --json",
    "refinement": "refine --json (a list)",
    "engine-check": "verify-export --json",
    "load-check": "verify-load --json (a list)",
}
"""Commands that print the content of these files."""

OTHERS = {
    "search/*.pb": "The CP-SAT model of a search: a binary `CpModelProto` ([how to load it](search.md#the-model-for-or-tools)).",
    "search/*.csv": "A frontier's points, one a row.",
    "costs/*.csv": "Measured costs as a table that `table(…)` reads.",
    "library/*.safetensors": "The weights of one piece, with its job in the header.",
    "models/*/": "A child: a checkpoint that transformers loads, with its own README.md.",
    "tokens/*.npy": "Tokenised text, by digest: a NumPy array with a SHA-256 of its content at the end.",
    "evals/units/": "Results of models on texts and tasks, sealed, which later evaluations take.",
    "work/": "Unfinished work, from which a stage resumes; removed when it ends. Its layout may change with any version.",
    "report.html": "The report, one page without further files.",
    "ladder-EVAL.svg": "A child beside the files of an engine's own quantiser: speed against KL divergence, from the report.",
}
"""Files of a build directory that are not JSON, or not ours: path -> content, in Markdown."""

DESCRIBED = {each.name: each for each in FILES}
