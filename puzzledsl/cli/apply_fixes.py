"""`pzl check --fix`: apply safe fixes to a program's own files until none is left, without ever adding mistakes.

Each round checks the fixed texts before any file is written. A round after which there are more mistakes is undone,
and its fixes are tried one by one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, Fix, apply, compatible, safe_fixes
from puzzledsl.base.files import like, write_bytes
from puzzledsl.base.frozen import record
from puzzledsl.checker.check import Checked, inspect

MAX_ROUNDS = 20
MAX_TRIALS = 100
"""Checks that one run may cost beyond its rounds."""


@record
class Made:
    """A fix that was made. Its place is in the text before its round."""

    diagnostic: Diagnostic
    fix: Fix

    def __str__(self) -> str:
        at = self.fix.edits[0].span
        return f"fixed {at.file}:{at.line}:{at.column}: {self.fix.title} [{self.diagnostic.code}]"


@dataclass(slots=True)
class FixRun:
    """Texts of one program while fixes are applied. `texts` holds those that changed, by the file of their spans."""

    path: Path
    settings: dict[str, str]
    texts: dict[str, str] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    trials: int = MAX_TRIALS

    def run(self) -> Checked:
        """Apply the fixes and return the program with the diagnostics that are left. Writes nothing."""
        checked = self._check(self.texts)
        for _ in range(MAX_ROUNDS):
            better = self._round(checked)
            if better is None:
                return checked
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
        offers = [
            Made(*offer)
            for file in checked.sources
            if _is_own(file)
            for offer in safe_fixes(checked.diagnostics, file)
        ]
        kept = compatible(made.fix for made in offers)
        chosen = [made for made in offers if any(made.fix is fix for fix in kept)]
        if not chosen:
            return None
        after = self._try(checked, chosen)
        if after is not None or len(chosen) == 1:
            return after
        for made in chosen:
            if self.trials <= 0:
                return None
            self.trials -= 1
            after = self._try(checked, [made])
            if after is not None:
                return after
        return None

    def _try(self, before: Checked, chosen: list[Made]) -> Checked | None:
        """Return the program with these fixes made, or None, changing nothing, if it then has more mistakes."""
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
    """Return the number of errors, then of warnings. Warnings are searched for only if there is no error: a fix may add some."""
    errors = sum(d.severity == "error" for d in checked.diagnostics)
    return errors, len(checked.diagnostics) - errors


def _is_own(file: str) -> bool:
    """True for a file of the user; false for a shipped one and for the text of `--set`."""
    return Path(file).is_file()
