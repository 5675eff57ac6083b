"""Parts that only `pzl check` needs: warnings of missing data files and of evaluation on training text, and `--fix`.

The checker itself reads no data files, so their absence is a warning of the command. Safe fixes are applied in rounds to a
program's own files until none is left. Each round checks the fixed texts before any file is written. A round after which there
are more mistakes is undone, and its fixes are tried one by one.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, Fix, apply, compatible, safe_fixes
from puzzledsl.base.files import like, matching, write_bytes
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import listed
from puzzledsl.checker.check import Checked, inspect
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes
from puzzledsl.ir.references import overlap, readers_of

LEARNERS = ("bld ", "uptrain ")
Readers = Mapping[str, list[str]]


def check_warnings(ctx: Context, program: nodes.Program) -> list[Diagnostic]:
    """Return warnings of paths that match no file, and of texts that are both trained and evaluated on."""
    from puzzledsl.data.errors import FileMissing

    readers = readers_of(program)
    evaluated = list(_measured_on(ctx, program, readers))
    for judge in program.judges.values():
        readers.setdefault(judge.data, []).append(f"judge `{judge.name}`")
    for name, data in program.data.items():
        for part in data.source.parts if isinstance(data.source, nodes.MixData) else ():
            readers.setdefault(part.name, []).extend(readers.get(name, ()))
    missing = [
        FileMissing(ctx.span_of(where), pattern=pattern, readers=who)
        for pattern, where, who in (*_texts(program, readers), *_items(program))
        if not matching(ctx.root.path.parent, pattern)
    ]
    return [*missing, *evaluated]


def _texts(program: nodes.Program, readers: Readers) -> Iterator[tuple[str, nodes.Where, str]]:
    """Yield (path or pattern, place of the declaration, readers in words) of the data files that something reads."""
    for name, data in program.data.items():
        if readers.get(name) and not isinstance(data.source, nodes.MixData | nodes.HfData):
            who = listed(dict.fromkeys(readers[name]))
            yield from ((path, data.where, who) for path in dict.fromkeys(data.source.paths))


def _items(program: nodes.Program) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, evaluation in program.evals.items():
        given = evaluation.prompts.path if evaluation.prompts is not None else None
        paths = (*evaluation.tasks, *([given] if given else ()))
        yield from ((path, evaluation.where, f"eval `{name}`") for path in paths)
    for name, judge in program.judges.items():
        yield from ((path, judge.where, f"judge `{name}`") for path in judge.tasks)
    for name, score in program.scores.items():
        if isinstance(score.method, nodes.ReplaceOne) and score.method.tasks:
            yield score.method.tasks, score.where, f"score `{name}`"


def _measured_on(ctx: Context, program: nodes.Program, readers: Readers) -> Iterator[Diagnostic]:
    """Yield a warning for each text of an evaluation that something is trained on."""
    from puzzledsl.data.errors import EvaluatedOnTrainingText

    learners = {name: [who for who in read if who.startswith(LEARNERS)] for name, read in readers.items()}
    for evaluation in program.evals.values():
        span = ctx.span_of(evaluation.where)
        for text in filter(None, (evaluation.data, *evaluation.more_data)):
            met = [name for name in learners if overlap(program.data[name], program.data[text])]
            if found := dict.fromkeys(reader for name in met for reader in learners[name]):
                yield EvaluatedOnTrainingText(span, name=evaluation.name, text=text, readers=listed(found))


MAX_ROUNDS = 20


class Made(Record):
    """A fix that was made, with its diagnostic. Spans are positions in the text before its round of fixes."""

    diagnostic: Diagnostic
    fix: Fix

    def __str__(self) -> str:
        at = self.fix.edits[0].span
        return f"fixed {at.file}:{at.line}:{at.column}: {self.fix.title} [{self.diagnostic.code}]"


@dataclass(slots=True)
class FixRun:
    """Run of `pzl check --fix` over one program. `texts`: the changed files, name in spans -> new text; `made`: the fixes."""

    path: Path
    settings: dict[str, str]
    texts: dict[str, str] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)

    def run(self) -> Checked:
        """Apply the fixes and return the program with the diagnostics that are left. Writes nothing."""
        checked = self._check(self.texts)
        for _ in range(MAX_ROUNDS):
            if (better := self._round(checked)) is None:
                break
            checked = better
        return checked

    def write(self) -> None:
        """Write the files that changed, each atomically."""
        for file, text in self.texts.items():
            write_bytes(Path(file), like(Path(file).read_bytes(), text))

    def _check(self, texts: Mapping[str, str]) -> Checked:
        unsaved = {os.path.realpath(file): text for file, text in texts.items()}
        return inspect(self.path, self.settings, unsaved)[0]

    def _round(self, checked: Checked) -> Checked | None:
        """Make one round of fixes. Return the program after it, or None if nothing could be improved."""
        own = filter(os.path.isfile, checked.sources)  # not shipped, and not the text of `--set`
        offers = [Made(*offer) for file in own for offer in safe_fixes(checked.diagnostics, file)]
        kept = compatible(made.fix for made in offers)
        chosen = [made for made in offers if any(made.fix is fix for fix in kept)]
        for some in (chosen, *([made] for made in chosen)):
            if some and (after := self._try(checked, some)) is not None:
                return after
        return None

    def _try(self, before: Checked, chosen: list[Made]) -> Checked | None:
        """Make these fixes and return the checked program; undo them and return None if it then has more mistakes."""
        texts = dict(self.texts)
        for file in {edit.span.file for made in chosen for edit in made.fix.edits}:
            fixes = [made.fix for made in chosen if made.fix.edits[0].span.file == file]
            texts[file] = apply(before.sources[file], fixes)
        after = self._check(texts)
        if _badness(after) > _badness(before):
            return None
        self.texts = texts
        self.made += chosen
        return after


def _badness(checked: Checked) -> tuple[int, int]:
    """Return the numbers of errors and of warnings. Errors count first, so a fix that removes one may add warnings."""
    errors = sum(d.severity == "error" for d in checked.diagnostics)
    return errors, len(checked.diagnostics) - errors
