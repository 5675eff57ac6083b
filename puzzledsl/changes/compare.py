"""Differences between two lowered programs, as data. Source places and comments make no difference.

Layers of a space with the same difference share one line. If a space loses its no-op, `count(attention is noop)` changes its
value but remains the same requirement, and the change is reported for the space alone. A requirement whose bound alone differs
counts as changed, not replaced. Expressions, requirements and figures are said close to how a program writes them.

Changes as text: `+` added, `-` removed, `~` changed; then the work, then one line that counts.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS
from puzzledsl.base import units
from puzzledsl.base.frozen import Frozen, Record
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.base.settings import settings_of
from puzzledsl.base.units import format_quantity
from puzzledsl.ir import nodes
from puzzledsl.ir.base import PROVENANCE, without_provenance
from puzzledsl.ir.logic import unbounded
from puzzledsl.ir.search_nodes import describe, describe_term, written
from puzzledsl.language.kinds import KINDS
from puzzledsl.plan.bld import bld_plan

_SUFFIXES = (
    ("traffic.rate", units.REQ_PER_S),
    ("_bytes_per_s", units.BYTES_PER_S),
    ("flop_per_s", units.FLOP_PER_S),
    ("_bytes", units.BYTES),
    ("_s", units.TIME),
)


def figure(path: str, value: object) -> str:
    """Format a field of a declaration: with a unit if the end of its `path` names one (`_bytes`, `_s`), else as it is."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, str) and not re.fullmatch(r"-?\d+(/\d+)?", value):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    leaf = path.rsplit(".", 1)[-1]
    whole = path if "flop_per_s." in path or path == "traffic.rate" else leaf
    for suffix, dimension in _SUFFIXES:
        if whole.endswith(suffix) or (suffix == "flop_per_s" and "flop_per_s." in whole):
            return format_quantity(Fraction(str(value)), dimension, 6)
    if isinstance(value, str):
        return f"{float(Fraction(value)):.6g}"
    return str(value)


def requirement_text(value: nodes.Requirement) -> str:
    """Format a requirement: `chat.memory <= 76GiB`, `chat.throughput >= 2.17x`; of layers as its program writes it."""
    if isinstance(value, nodes.LogicRequirement):
        return " ".join(written(value).split())
    op: str = value.op
    if value.judged is not None:
        op, share = value.judged.op, float(value.judged.bound)
        bound = f"{share:.6g}x" if value.judged.record.of_parent else f"{share:.6g}"
    elif value.parent_ratio is not None:
        bound = f"{float(value.parent_ratio):.6g}x"
    else:
        bound = format_quantity(value.bound or Fraction(0), nodes.DIMENSIONS[value.unit], 6)
    return f"{' '.join(value.where.text.split())} {op} {bound}"


def refine_text(value: nodes.Refine) -> str:
    """Format `refine` as in a program: `measured(24, healed: 4096, samples: 2048, data: corpus)`."""
    data = "" if value.data is None else f", data: {value.data}"
    return f"measured({value.children}, healed: {value.healed}, samples: {value.samples}{data})"


Sign = Literal["+", "-", "~"]


@dataclass(frozen=True, slots=True)
class Detail:
    """One changed detail of a declaration. `old` is empty for an addition, `new` for a removal."""

    what: str
    old: str = ""
    new: str = ""

    @property
    def sign(self) -> Sign:
        """`+` added, `-` removed, `~` changed."""
        return "~" if self.old and self.new else "+" if self.new else "-"


@dataclass(frozen=True, slots=True)
class Change:
    """One declaration that is added, removed or changed."""

    sign: Sign
    kind: str
    name: str
    details: tuple[Detail, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the change as a JSON object."""
        details = [{"what": d.what, "old": d.old or None, "new": d.new or None} for d in self.details]
        action = {"+": "add", "-": "remove", "~": "change"}[self.sign]
        return {"action": action, "kind": self.kind, "name": self.name, "details": details}


class Pieces(Record):
    """The jobs of one BLD: `make` are new (`tokens` to train them), `keep` are unchanged, `drop` are no longer needed."""

    make: int
    keep: int
    drop: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ProgramChanges:
    """All differences between two programs. `waiting` lists BLDs whose jobs are unknown until a search is solved."""

    changes: tuple[Change, ...]
    pieces: dict[str, Pieces]
    waiting: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def count(self, sign: Sign) -> int:
        """Return the number of changes with this sign: added (`+`), changed (`~`) or removed (`-`)."""
        return sum(change.sign == sign for change in self.changes)

    def as_json(self) -> dict[str, object]:
        """Return the differences as a JSON object."""
        return {
            "format_version": "1.0",
            "changes": [change.as_json() for change in self.changes],
            "pieces": {name: asdict(pieces) for name, pieces in self.pieces.items()},
            "waiting": list(self.waiting),
            "summary": {"add": self.count("+"), "change": self.count("~"), "remove": self.count("-")},
        }


def meaning(node: Frozen) -> str:
    """Return a text that is equal for two requirements or goals exactly if they mean the same."""
    return json.dumps(without_provenance(node.model_dump(mode="json")), sort_keys=True)


def space_details(old: nodes.Space, new: nodes.Space) -> Iterator[Detail]:
    """Yield a change in the number of layers, changed types of the model's ends, and alternatives that layers lost or gained."""
    if len(old.layers) != len(new.layers):
        yield Detail("layers", str(len(old.layers)), str(len(new.layers)))
    for site in ENDS:
        known = [getattr(space.ends or nodes.EndsChoice(), site) for space in (old, new)]
        was, now = (" | ".join(end.name for end in ends) for ends in known)
        if was != now:
            yield Detail(site, was, now)
    for sub_block in SUB_BLOCKS:
        moved: dict[tuple[bool, tuple[str, ...]], list[int]] = {}
        for layer, choices in enumerate(zip(old.layers, new.layers, strict=False)):
            before, after = ([each.name for each in getattr(choice, sub_block)] for choice in choices)
            for is_new, names, others in ((False, before, after), (True, after, before)):
                if found := tuple(name for name in names if name not in others):
                    moved.setdefault((is_new, found), []).append(layer)
        for (is_new, found), layers in sorted(moved.items(), key=lambda item: item[0][0]):
            what, text = f"{layers_in_words(layers)} {sub_block}", " | ".join(found)
            yield Detail(what, new=text) if is_new else Detail(what, old=text)


Asked = Sequence[nodes.Requirement]
Read = Callable[[nodes.Requirement], str]
MANY = 3  # Instances of one line in a `for` beyond which they are reported together.


def search_details(old: nodes.Search, new: nodes.Search, *, same_space: bool) -> Iterator[Detail]:
    """Yield the goal, requirements and preferences that differ.

    If the space differs (not `same_space`), texts that read alike count as the same: the space reports its own alternatives.
    """
    before, after = (f"{s.sense} {describe(s.objective)}" for s in (old, new))
    if before != after or (same_space and meaning(old.objective) != meaning(new.objective)):
        yield _told_apart("goal", before, after)
    read = meaning if same_space else requirement_text
    yield from _requirements(old.requirements, new.requirements, read)
    texts = [", then ".join(f"{p.sense} {describe(p.goal)}" for p in s.preferences) for s in (old, new)]
    meanings = [[(p.sense, meaning(p.goal)) for p in s.preferences] for s in (old, new)]
    if texts[0] != texts[1] or (same_space and meanings[0] != meanings[1]):
        yield _told_apart("prefer", *texts)


def _told_apart(what: str, before: str, after: str) -> Detail:
    """Return a detail; mark texts that are equal because only figures inside a table differ."""
    return Detail(what, before, f"{after} (with other figures)" if before == after else after)


def _requirements(old: Asked, new: Asked, read: Read) -> Iterator[Detail]:
    """Yield changed, removed and added requirements. Two are the same if `read` returns the same text for both."""
    gone, come = _left_over(old, new, read), _left_over(new, old, read)
    for requirement in list(gone):
        about = _about(requirement)
        partner = next((r for r in come if about and _about(r) == about), None)
        if partner is not None:
            gone.remove(requirement)
            come.remove(partner)
            yield _told_apart("require", requirement_text(requirement), requirement_text(partner))
    yield from (Detail("require", old=text) for text in _told(gone))
    yield from (Detail("require", new=text) for text in _told(come))


def _left_over(some: Asked, others: Asked, read: Read) -> list[nodes.Requirement]:
    """Return the requirements of `some` that `others` lacks, as a multiset difference of the texts that `read` gives."""
    rest = Counter(map(read, others))
    left: list[nodes.Requirement] = []
    for requirement in some:
        text = read(requirement)
        if rest[text] > 0:
            rest[text] -= 1
        else:
            left.append(requirement)
    return left


def _about(requirement: nodes.Requirement) -> str:
    """Return the bounded quantity and the direction of the bound as a key; empty for a statement about layers."""
    if isinstance(requirement, nodes.LinearRequirement):
        return f"{requirement.where.text} {requirement.op[0]}"
    of = requirement.formula
    return meaning(unbounded(of)) if isinstance(of, nodes.Runs | nodes.Longest | nodes.Distinct) else ""


def _told(requirements: Asked) -> Iterator[str]:
    """Yield one text per requirement; instances of one line that read alike, and more than MANY that do not, become one text."""
    lines: dict[str, list[nodes.Requirement]] = {}
    for requirement in requirements:
        lines.setdefault(f"{requirement.where.file}:{requirement.where.line}", []).append(requirement)
    for group in lines.values():
        texts = Counter(map(requirement_text, group))
        if len(texts) > MANY:
            texts = Counter({group[0].where.text: len(group)})
        yield from (f"{text} ({times} times)" if times > 1 else text for text, times in texts.items())


_NO_MEANING = PROVENANCE | {"roundings", "requests"}
_COMPARED_APART = {"layers", "objective", "requirements", "preferences", "sense"}


def compare(old: nodes.Program, new: nodes.Program) -> ProgramChanges:
    """Differences in meaning of `new` from `old`, declaration by declaration, with the pieces to make."""
    declared = (change for kind in KINDS for change in _of_kind(kind, old, new))
    changes = (*_params(old, new), *declared)
    waiting = tuple(name for name, bld in new.blds.items() if new.spaces[bld.space].used_by is not None)
    pieces = {name: _pieces(old, new, name) for name in new.blds if name not in waiting}
    return ProgramChanges(changes, pieces, waiting)


def _params(old: nodes.Program, new: nodes.Program) -> Iterator[Change]:
    for name in dict.fromkeys([*old.params, *new.params]):
        before, after = old.params.get(name, ""), new.params.get(name, "")
        if before != after:
            detail = Detail("value", before, after)
            yield Change(detail.sign, "param", name, (detail,))


def _of_kind(kind: str, old: nodes.Program, new: nodes.Program) -> Iterator[Change]:
    before, after = (getattr(program, KINDS[kind].plural) for program in (old, new))
    for name in after:
        if name not in before:
            yield Change("+", kind, name)
            continue
        details = list(_details(before[name], after[name]))
        if kind == "search":
            a, b = old.searches[name], new.searches[name]
            spaces = old.spaces[a.space].layers, new.spaces[b.space].layers
            details += search_details(a, b, same_space=spaces[0] == spaces[1])
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
    """Yield a declaration's figures as (path, text), without the fields that other functions compare in detail."""
    apart = _COMPARED_APART if isinstance(node, nodes.Space | nodes.Search) else set()
    for key, value in node.model_dump(mode="json").items():
        if key == "term" and isinstance(node, nodes.Frontier):
            yield "metric", describe_term(node.term)
        elif key == "refine" and isinstance(node, nodes.Search):
            yield key, "none" if node.refine is None else refine_text(node.refine)
        elif key == "full" and isinstance(node, nodes.Eval):
            yield key, " + ".join(node.full)
        elif key not in _NO_MEANING | apart:
            yield from _flat(_word(node, key), key, getattr(node, key), value)


def _flat(said: str, path: str, found: object, value: object) -> Iterator[tuple[str, str]]:
    """Yield a value's figures as (path, text). `said`: the path in the language's words; `path`: in fields, with units."""
    if isinstance(value, dict):
        for key, part in value.items():
            if isinstance(found, Frozen) and key in _NO_MEANING:
                continue
            inner = getattr(found, key) if isinstance(found, Frozen) else None
            yield from _flat(f"{said}.{_word(found, key)}", f"{path}.{key}", inner, part)
    else:
        yield said, figure(path, value)


def _word(node: object, field: str) -> str:
    """Return the language's word for a node's field: the name of its setting, or the field's own if it has none."""
    known = settings_of(type(node)) if isinstance(node, Frozen) else {}
    return next((word for word, own in known.items() if own.name == field and not own.wide), field)


def _pieces(old: nodes.Program, new: nodes.Program, bld: str) -> Pieces:
    """Compare the jobs of a BLD with those of all BLDs of the old program, by id: it does not depend on the BLD's name."""
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


def as_text(changes: ProgramChanges) -> str:
    """Return all changes as text, without a final newline."""
    return "\n".join(_lines(changes)) if changes else "No changes: both programs mean the same."


def _lines(changes: ProgramChanges) -> Iterator[str]:
    told: dict[tuple[str, tuple[Detail, ...]], str] = {}
    for change in changes.changes:
        yield f"{change.sign} {change.kind} {change.name}"
        first = told.setdefault((change.kind, change.details), change.name)
        if first != change.name and change.details:
            yield f"    ~ as {first}"
            continue
        for detail in change.details:
            what = detail.new or detail.old
            if detail.sign == "~":
                what = f"{detail.old} -> {detail.new}"
            yield f"    {detail.sign} {detail.what}: {what}"
    yield ""
    for name, pieces in changes.pieces.items():
        if pieces.make or pieces.drop:
            dropped = f", {pieces.drop:,} no longer needed" if pieces.drop else ""
            yield (
                f"bld {name}: {pieces.make:,} pieces to make ({pieces.tokens:,} tokens), "
                f"{pieces.keep:,} as before{dropped}"
            )
    for name in changes.waiting:
        yield f"bld {name}: known once its space's search is solved"
    count = changes.count
    yield f"Plan: {count('+')} to add, {count('~')} to change, {count('-')} to remove."
