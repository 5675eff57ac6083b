"""All alternatives: those of the files beside this one, and those of installed packages (entry points `puzzledsl.alternatives`).

An entry point is named after the alternative and refers to its class. A package that does not load is a diagnostic in
`BROKEN`; it never stops the program. The unions for JSON are closed once this module is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args

from puzzledsl.alternatives.alternative import Alternative, Attention, Ffn, Site
from puzzledsl.alternatives.parent import ParentEmbedding, ParentHead
from puzzledsl.alternatives.precision import CACHES, KV, PRECISIONS
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.base.diagnostics import Diagnostic, Mistake
from puzzledsl.base.frozen import BY_KIND, add_fields, left_out, type_of
from puzzledsl.base.resources import entry_points

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "puzzledsl.alternatives"


BrokenPackage = Mistake(
    "W0204",
    "the package `{package}` adds no alternative `{name}`: {reason}",
    "upgrade or uninstall `{package}`",
)


A = TypeVar("A", bound=Alternative)


def _declared(base: type[A]) -> dict[str, type[A]]:
    """Return the classes of one sub-block that the files of this folder declare, by word."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "registry")
    modules = [import_module(f"{__package__}.{name}") for name in names]
    own = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    found = [each for each in dict.fromkeys(own) if issubclass(each, base) and "kind" in each.model_fields]
    return {each.kind: each for each in sorted(found, key=lambda each: each.place)}


ATTENTION = _declared(Attention)
FFN = _declared(Ffn)
KINDS: Mapping[Site, Mapping[str, type[Alternative]]] = {
    "attention": ATTENTION,
    "ffn": FFN,
    "embedding": {"parent": ParentEmbedding},
    "head": {"parent": ParentHead},
}
"""Site -> word -> class, in the order of documentation."""
BROKEN: list[Diagnostic] = []  # installed packages whose alternative does not load


def _install(entry: EntryPoint) -> None:
    """Add the alternative of an entry point, or a diagnostic to BROKEN."""
    try:
        found = entry.load()
        reason = _objection(entry.name, found)
    except Exception as error:  # whatever the package's code raises
        found, reason = None, f"{type(error).__name__}: {error}"
    if reason:
        package = entry.dist.name if entry.dist is not None else entry.module
        BROKEN.append(BrokenPackage(None, package=package, name=entry.name, reason=reason))
    elif issubclass(found, Attention):
        ATTENTION[entry.name] = found
    else:
        FFN[entry.name] = found


def _objection(name: str, found: Any) -> str:
    """Return the reason why `found`, the object of an entry point `name`, cannot be added; empty if it can."""
    if not (isinstance(found, type) and issubclass(found, Attention | Ffn)):
        return f"`{found!r}` is no subclass of `Attention` or `Ffn`"
    kind = found.model_fields.get("kind")
    if kind is None or (*get_args(type_of(found, "kind")), kind.default) != (name, name):
        return f'its class does not say `kind="{name}"` beside its base'
    if found.weights is Alternative.weights and found.changes is Alternative.changes:
        return "its class has no weights"
    taken = any(name in kinds for kinds in KINDS.values())
    return "there is one of this name already" if taken else ""


for _entry in entry_points(GROUP):
    _install(_entry)
_CHOSEN = sorted(
    {word: kind for kinds in KINDS.values() for word, kind in kinds.items() if kind.initialisers}.items(),
    key=lambda item: item[1].place,
)
add_fields(
    Initialisers,
    {
        word: (
            Literal[kind.initialisers],
            kind.initialisers[0] if kind.writes_default else left_out(kind.initialisers[0]),
        )
        for word, kind in _CHOSEN
    },
)

if TYPE_CHECKING:
    AttentionAlternative: TypeAlias = Attention
    FfnAlternative: TypeAlias = Ffn
else:
    AttentionAlternative = Annotated[Union[tuple(ATTENTION.values())], BY_KIND]  # noqa: UP007
    FfnAlternative = Annotated[Union[tuple(FFN.values())], BY_KIND]  # noqa: UP007


def is_canonical(name: str, site: Site) -> bool:
    """Return True if a text has the form of an alternative's canonical name."""
    plain, *types = name.split("@")
    kinds = KINDS[site].items()
    known = [kind for word, kind in kinds if re.fullmatch(kind.name_pattern or word, plain)]
    if not known or not types:
        return bool(known)
    dtypes = PRECISIONS if known[0].quantisable else ()
    caches = [f"{KV}{cache}" for cache in CACHES] if known[0].has_cache else []
    return types in [[d] for d in dtypes] + [[c] for c in caches] + [[d, c] for d in dtypes for c in caches]
