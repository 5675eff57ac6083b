"""Compare two lowered programs. Source places and comments make no difference."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.base.frozen import Frozen
from puzzledsl.base.settings import settings_of
from puzzledsl.changes import words
from puzzledsl.changes.common import common_names
from puzzledsl.changes.model import Change, Detail, Pieces, ProgramChanges
from puzzledsl.changes.searches import search_details
from puzzledsl.changes.spaces import space_details
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS
from puzzledsl.plan.bld import bld_plan

_NO_MEANING = {"name", "where", "runtime_where", "bound_where", "doc", "because", "roundings", "requests"}
_COMPARED_APART = {"layers", "objective", "requirements", "preferences", "sense"}


def compare(old: nodes.Program, new: nodes.Program) -> ProgramChanges:
    """Differences in meaning of `new` from `old`, declaration by declaration, with the pieces to make."""
    changes = tuple(_params(old, new)) + tuple(
        change for kind in KINDS for change in _of_kind(kind, old, new)
    )
    waiting = tuple(name for name, bld in new.blds.items() if new.spaces[bld.space].used_by is not None)
    pieces = {name: _pieces(old, new, name) for name in new.blds if name not in waiting}
    return ProgramChanges(changes, pieces, waiting)


def declared(program: nodes.Program, kind: str) -> dict[str, Frozen]:
    """The declarations of one kind."""
    found: dict[str, Frozen] = getattr(program, KINDS[kind].plural)
    return found


def _params(old: nodes.Program, new: nodes.Program) -> Iterator[Change]:
    for name in dict.fromkeys([*old.params, *new.params]):
        before, after = old.params.get(name, ""), new.params.get(name, "")
        if before != after:
            detail = Detail("value", before, after)
            yield Change(detail.sign, "param", name, (detail,))


def _of_kind(kind: str, old: nodes.Program, new: nodes.Program) -> Iterator[Change]:
    before, after = declared(old, kind), declared(new, kind)
    for name in after:
        if name not in before:
            yield Change("+", kind, name)
            continue
        details = list(_details(before[name], after[name]))
        if kind == "search":
            a, b = old.searches[name], new.searches[name]
            details += search_details(a, b, common_names(old.spaces[a.space], new.spaces[b.space]))
        if details:
            yield Change("~", kind, name, tuple(details))
    yield from (Change("-", kind, name) for name in before if name not in after)


def _details(old: Frozen, new: Frozen) -> Iterator[Detail]:
    before, after = dict(_fields(old)), dict(_fields(new))
    for path in dict.fromkeys([*before, *after]):
        texts = before.get(path, ""), after.get(path, "")
        if texts[0] != texts[1]:
            yield Detail(path, *texts)
    if isinstance(old, nodes.Space) and isinstance(new, nodes.Space):
        yield from space_details(old, new)


def _fields(node: Frozen) -> Iterator[tuple[str, str]]:
    """The figures of a declaration by their path, but what is compared with more care."""
    apart = _COMPARED_APART if isinstance(node, nodes.Space | nodes.Search) else set()
    for key, value in node.model_dump(mode="json").items():
        if key == "term" and isinstance(node, nodes.Frontier):
            yield "metric", words.term(node.term)
        elif key == "refine" and isinstance(node, nodes.Search):
            yield key, "none" if node.refine is None else words.refine(node.refine)
        elif key == "full" and isinstance(node, nodes.Eval):
            yield key, " + ".join(node.full)
        elif key not in _NO_MEANING | apart:
            yield from _flat(_word(node, key), key, getattr(node, key), value)


def _flat(said: str, path: str, found: object, value: object) -> Iterator[tuple[str, str]]:
    """Yield the figures in a value by their paths: `said` in words of the language, `path` in fields, which end in a unit."""
    if isinstance(value, dict):
        for key, part in value.items():
            if isinstance(found, Frozen) and key in _NO_MEANING:
                continue
            inner = getattr(found, key) if isinstance(found, Frozen) else None
            yield from _flat(f"{said}.{_word(found, key)}", f"{path}.{key}", inner, part)
    else:
        yield said, words.figure(path, value)


def _word(node: object, field: str) -> str:
    """Return the name in the language of a node's field: the setting's, where it is one."""
    known = settings_of(type(node)) if isinstance(node, Frozen) else {}
    return next(
        (word for word, setting in known.items() if setting.name == field and not setting.wide), field
    )


def _pieces(old: nodes.Program, new: nodes.Program, bld: str) -> Pieces:
    """Jobs of one BLD against all that the old program makes: a piece is known by its id, whoever makes it."""
    made_before = {job.id for name in old.blds for job in bld_plan(old, name)}
    own_before = {job.id for job in bld_plan(old, bld)} if bld in old.blds else set()
    jobs = {job.id: job for job in bld_plan(new, bld)}
    make = [job for id, job in jobs.items() if id not in made_before]
    return Pieces(
        make=len(make),
        keep=len(jobs) - len(make),
        drop=len(own_before - jobs.keys()),
        tokens=sum(job.tokens for job in make),
    )
