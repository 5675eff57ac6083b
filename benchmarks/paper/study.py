"""Children of the programs in examples/paper: made in one build directory, judged alike, and kept.

A record is a JSON file under the digest of what its child depends on: the declarations that make it, with their settings, the
methods of healing and uptraining, and the samples that it is judged on. A study that was stopped goes on, only what is new is
made, and programs share the children that are the same in both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import puzzledsl as pzl
from benchmarks.paper.judge import Exam, Judge, Judged, Part
from puzzledsl.base.files import write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.nodes import Data, HfSource, Program
from puzzledsl.ir.references import references
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.pipeline.inputs import HEALING
from puzzledsl.pipeline.stamps import digest_of, meaning
from puzzledsl.uptrain.run import METHOD

PROGRAMS = Path(__file__).parents[2] / "examples" / "paper"
LIBRARY = "library.pzl"
HELDOUT = "heldout"
"""The library's text that children are judged on."""
SEED = "seed"
"""The parameter of a program that draws its text anew."""


@dataclass(frozen=True)
class Budget:
    """Values of the programs' parameters, and the amount of text and questions that children are judged on.

    Attributes:
        settings: Values of parameters by name; a program takes those that it declares.
        seeds: Repetitions of what is drawn by chance.
        rival_seeds: Repetitions of the uptrainings that children of several rules are compared by: their outcomes vary more.
        piece_seeds: Repetitions of the training of a few pieces, which takes seconds.
        heldout: Tokens of held-out text.
        items: Questions of each task.
        points: Required speed-ups of a frontier whose children are uptrained.
        lengths: Tokens of the documents of long-context tasks.
        sheets: Documents of each length and kind.
        timing: Children are also timed in an engine, where one is installed.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    seeds: int = 3
    rival_seeds: int = 5
    piece_seeds: int = 9
    heldout: int = 8192
    items: int = 300
    points: int = 3
    lengths: tuple[int, ...] = (256, 512, 1024, 2048)
    sheets: int = 10
    timing: bool = False


NIGHT = Budget(
    {"piece_tokens": "64Ki", "samples": "4Ki", "healing": "24Ki", "distilling": "256Ki"},
    seeds=5,
    rival_seeds=8,
    points=4,
    heldout=24_576,
    items=1_000,
    sheets=64,
    timing=True,
)
BUDGETS = {
    "quick": Budget(timing=True),
    "night": NIGHT,
    "gpu": replace(
        NIGHT,
        settings={"piece_tokens": "1Mi", "samples": "16Ki", "healing": "64Ki", "distilling": "16Mi"},
    ),
}
"""`quick` is meant for two cores and three hours, `night` for a night of them, `gpu` for one GPU. Only `quick` has been run."""


def recipe(program: Program, name: str) -> str:
    """Digest of the declarations that make the child of a search or of an uptraining, by their meaning.

    All blds, scores and refinements of the program are among them: they divide the text that children are healed on.
    """
    kinds: list[Mapping[str, Frozen]] = [
        program.parents,
        program.data,
        program.hardware,
        program.scenarios,
        program.spaces,
    ]
    kinds += [program.blds, program.scores, program.searches, program.uptrains]
    declared = {key: node for kind in kinds for key, node in kind.items()}
    waiting = [name, *program.blds, *program.scores]
    waiting += [search for search, node in program.searches.items() if node.refine is not None]
    found: dict[str, str] = {}
    while waiting:
        if (key := waiting.pop()) in declared and key not in found:
            found[key] = meaning(declared[key])
            waiting += references(declared[key])
    return digest_of([name, found])


class Study:
    """Programs run at one budget, in one build directory."""

    def __init__(
        self,
        budget: Budget,
        build: Path,
        *,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
        programs: Path = PROGRAMS,
    ) -> None:
        """`settings`: parameters besides the budget's, such as another `model`; `say` takes a line of progress."""
        self.budget, self.build, self._programs = budget, build, programs
        self._settings, self._say = {**budget.settings, **(settings or {})}, say
        self._declared: dict[str, set[str]] = {}
        self._library: pzl.Program | None = None
        library = self.program(LIBRARY).ir
        source = library.parents[library.spaces["wide"].parent].source
        assert isinstance(source, HfSource)
        self._parent_dir = programs / source.id
        self._library_data = library.data
        self._judge = Judge(programs, build / "tokens")
        self.made = 0
        """Records that were not there before."""
        self.timed: dict[str, Any] = {}
        """Figures that were timed on this machine, by table: JSON, no part of a result."""

    @property
    def parent_dir(self) -> Path:
        """The parent's checkpoint."""
        return self._parent_dir

    def setting(self, name: str, otherwise: str) -> str:
        """The value of a parameter, where the budget or the caller sets one."""
        return self._settings.get(name, otherwise)

    @property
    def seeds(self) -> range:
        """The seeds of what is drawn by chance."""
        return range(self.budget.seeds)

    def program(self, file: str, **settings: object) -> pzl.Program:
        """A program with the budget's settings, and these."""
        return self._opened(file, self.build, settings)

    def written(self, file: str, **settings: object) -> Program:
        """The same program as its text says it: a space of `used_by` is not narrowed by a search that happens to be solved."""
        return self._opened(file, self.build / "unsolved", settings).ir

    def _opened(self, file: str, build: Path, settings: Mapping[str, object]) -> pzl.Program:
        path = self._programs / file
        if file not in self._declared:
            self._declared[file] = set(pzl.load(path, build=build).ir.params)
        common = {name: value for name, value in self._settings.items() if name in self._declared[file]}
        return pzl.load(path, build=build, settings={**common, **settings})

    def library(self) -> pzl.Program:
        """The library with its pieces made and scored, by both scores in one pass."""
        if self._library is None:
            program = self.program(LIBRARY)
            program.run(until="score", progress=True)
            self._library = program
        return self._library

    def solved(self, file: str, search: str, **settings: object) -> Any:
        """The answer of a search, on the library's scores and costs."""
        self.library()
        program = self.program(file, **settings)
        program.run(until="score", progress=True)
        return program.solve(search)

    def layers(self, file: str, search: str, **settings: object) -> list[LayerAssignment]:
        """The alternatives that a search chose, kept as a child's figures are: a score of other settings may lie there by now."""
        key, _ = self._recipe(file, search, settings)
        rows = self.kept(
            ("layers", key),
            lambda: [layer.model_dump() for layer in self.solved(file, search, **settings).layers],
        )
        return [LayerAssignment.model_validate(row) for row in rows]

    def parent(
        self,
        tasks: Sequence[str] = (),
        items: int | None = None,
        *,
        text: Data | str = HELDOUT,
        tokens: int | None = None,
        part: Part = None,
    ) -> Judged:
        """The parent, judged as its children are. `text`: a declaration, or the name of one of the library's."""
        text = self._library_data[text] if isinstance(text, str) else text
        exam = self._exam(text, tokens, tasks, items, part)
        return self._judged("parent", self._load_parent, exam)

    def child(
        self,
        file: str,
        name: str,
        tasks: Sequence[str] = (),
        items: int | None = None,
        *,
        text: Data | str = HELDOUT,
        tokens: int | None = None,
        part: Part = None,
        **settings: object,
    ) -> Judged:
        """The child of a search or of an uptraining, made as `pzl run` makes it, then judged.

        Args:
            file: The program in examples/paper.
            name: The search or the uptraining.
            tasks: Names of task files in the texts' folder that it answers.
            items: Questions of each; the budget's unless given.
            text: What its losses are judged on: a `data` of the program, or else of the library, or of another program.
            tokens: How many tokens of the text at most; the budget's unless given.
            part: The part of each task file that is asked, by the content of its questions; all unless given.
            **settings: Parameters of the program, such as `seed=1`.
        """
        key, made = self._recipe(file, name, settings)
        if isinstance(text, str):
            text = self.program(file, **settings).ir.data.get(text) or self._library_data[text]
        return self._judged(key, made, self._exam(text, tokens, tasks, items, part))

    def measured(
        self,
        measure: Callable[[Any, Any], Any],
        key: object,
        file: str | None = None,
        name: str = "",
        **settings: object,
    ) -> Any:
        """Another measurement of a child, or of the parent where no program is named, kept as JSON.

        Args:
            measure: Takes the model, in float32, and its tokenizer.
            key: All that the measurement depends on besides the model.
            file: The program in examples/paper.
            name: The search or the uptraining.
            **settings: Parameters of the program.
        """
        child, made = ("parent", self._load_parent) if file is None else self._recipe(file, name, settings)
        return self.kept((child, key), lambda: measure(made(), self.tokenizer))

    @cached_property
    def tokenizer(self) -> Any:
        """The parent's, which is its children's, too."""
        return load_tokenizer(self._parent_dir)

    @property
    def texts(self) -> Path:
        """The folder of the texts and the task files."""
        texts = self.program(LIBRARY).ir.params["texts"].strip('"')
        return (self._programs / texts).resolve()

    def _load_parent(self) -> Any:
        return load_parent(self._parent_dir)

    def _recipe(self, file: str, name: str, settings: Mapping[str, object]) -> tuple[str, Callable[[], Any]]:
        """A digest of all that a child depends on, and a function that makes it."""
        program, written = self.program(file, **settings), self.written(file, **settings)
        until = "uptrain" if name in written.uptrains else "realise"

        def made() -> Any:
            self.library()
            self._say(f"{file}: {name} {' '.join(f'{k}={v}' for k, v in settings.items())}")
            return program.run(until=until, progress=True).child(name)

        return json.dumps([recipe(written, name), HEALING, METHOD]), made

    def of_seeds(self, file: str, name: str, tasks: Sequence[str] = (), **settings: Any) -> list[Judged]:
        """The same child of every seed; the program has a parameter `seed`."""
        return [self.child(file, name, tasks, None, **{SEED: seed, **settings}) for seed in self.seeds]

    def kept(self, key: object, make: Callable[[], Any]) -> Any:
        """A JSON value that `make` computes once for this key."""
        path = self._record(repr(key))
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        value = json.loads(json.dumps(make()))
        self.made += 1
        write_text(path, json.dumps(value))
        return value

    def _exam(
        self, text: Data, tokens: int | None, tasks: Sequence[str], items: int | None, part: Part
    ) -> Exam:
        most = self.budget.heldout
        return Exam(
            text,
            most if tokens is None else min(tokens, most),
            tuple(self.texts / f"{name}.jsonl" for name in tasks),
            self.budget.items if items is None else items,
            part,
        )

    def _judged(self, key: str, make: Callable[[], Any], exam: Exam) -> Judged:
        def judged() -> dict[str, Any]:
            if not self._judge.ready:
                self._judge.parent(load_parent(self._parent_dir), load_tokenizer(self._parent_dir))
            return asdict(self._judge.judged(make(), exam))

        found = self.kept((key, exam.version), judged)
        rows = {
            name: {task: tuple(row) for task, row in found[name].items()}
            for name in ("answers", "chances", "belief")
        }
        return Judged(tuple(found["kl"]), tuple(found["lm"]), found["params"], **rows)

    def _record(self, key: str) -> Path:
        return self.build / "paper" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
