"""Choice of the architecture in which a runtime runs a child, or every child of a space, and what rewrites add."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock, served
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.precision import CACHES, UNROUNDED, CacheName
from puzzledsl.alternatives.support import FAMILY, NATIVE, Architecture, Lowered, Support, worst
from puzzledsl.alternatives.weights import USUAL, Computation
from puzzledsl.base.frozen import Record
from puzzledsl.families.block_configs import on_base
from puzzledsl.ir.engines import RUNTIMES, Runtime
from puzzledsl.ir.measured_engines import ENGINES, TORCH, Engine
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program, Scenario, Shape, Space, TableHardware

Choices = Sequence[tuple[Sequence[Alternative], Sequence[Alternative]]]
"""Alternatives of attention and FFN in each layer."""


class Lack(Record):
    """An alternative that an architecture lacks, or has only rewritten, in some layers."""

    sub_block: SubBlock
    alternative: Alternative
    support: Support
    layers: tuple[int, ...]
    kept: bool = False  # True if it is the parent's own: the parent is a child, and has it there.


class Fit(Record):
    """An architecture with all that it lacks or rewrites: properties of the model in words, and alternatives."""

    architecture: Architecture
    model: tuple[tuple[str, Support], ...]
    lacks: tuple[Lack, ...]

    @property
    def absent(self) -> tuple[bool, int, int]:
        """True if the family is absent, the number of absent properties of the model, and that of absent alternatives."""
        model = [what for what, support in self.model if support.kind == "absent"]
        of_layers = sum(lack.support.kind == "absent" for lack in self.lacks)
        return FAMILY in model, len(model), of_layers


def fit(runtime: Runtime, shape: Shape, choices: Choices, computation: Computation = USUAL) -> Fit:
    """Return the runtime's architecture that lacks least, the first of equals. A parent that is a child counts by its base."""
    on_bases = [
        ([on_base(a, own) for a in attentions], [on_base(a, own) for a in ffns])
        for (attentions, ffns), own in zip(choices, shape.each, strict=True)
    ]
    fits = [_fit(each, shape.base or shape, on_bases, computation) for each in runtime.architectures]
    best = min(fits, key=lambda found: found.absent)
    if shape.base is None:
        return best
    kept = [(on_base(PARENTS["attention"], own), on_base(PARENTS["ffn"], own)) for own in shape.each]
    return replace(best, lacks=tuple(part for lack in best.lacks for part in _split(lack, kept)))


def _split(lack: Lack, kept: Sequence[tuple[Alternative, Alternative]]) -> Iterator[Lack]:
    """Yield the lack in layers where the parent (itself a child) has the alternative, then in others; `kept`: by layer."""
    index = SUB_BLOCKS.index(lack.sub_block)
    for own in (True, False):
        layers = tuple(i for i in lack.layers if (kept[i][index] == lack.alternative) == own)
        if layers:
            yield replace(lack, layers=layers, kept=own)


def _fit(architecture: Architecture, shape: Shape, choices: Choices, computation: Computation) -> Fit:
    found: dict[tuple[SubBlock, Alternative, Support, bool], list[int]] = {}
    known: dict[tuple[int, ...], list[tuple[SubBlock, Alternative, Shape]]] = {}
    # layers that are alike share their objects
    keys, offered = list[tuple[int, ...]](), list[tuple[SubBlock, Alternative, Shape]]()
    for own, of_layer in zip(shape.each, choices, strict=True):
        keys.append((id(own), *(id(a) for alternatives in of_layer for a in alternatives)))
        if keys[-1] not in known:
            parts = zip(SUB_BLOCKS, of_layer, strict=True)
            known[keys[-1]] = [(part, a, a.alone(own)) for part, of_part in parts for a in of_part]
        offered += known[keys[-1]]
    sizes = (here.attended for part, _, here in offered if part == "attention")
    windows = _others(architecture.other_windows, (size for size in sizes if size is not None))
    routed = [here.routing for *_, here in offered if _is_mixture(here)]
    active = _others(architecture.other_top_k, (top_k for _, top_k in routed))
    most = max((experts for experts, _ in routed), default=0) if computation.weights_of_all else 0
    lacking: dict[tuple[tuple[int, ...], bool], list[tuple[SubBlock, Alternative, Support, bool]]] = {}
    for layer, key in enumerate(keys):
        own, first = shape.at(layer), layer == 0
        if (key, first) not in lacking:
            of_kind = lacking[key, first] = []
            for part, alternative, here in known[key]:
                answer = served(alternative, architecture, own, first=first)
                if answer.kind != "absent" and here.attended in windows:
                    answer = architecture.other_windows
                if answer.kind != "absent" and _is_mixture(here):
                    experts, top_k = here.routing
                    if top_k in active:
                        answer = architecture.other_top_k
                    elif experts < most:
                        answer = worst(architecture.fewer_of_all, answer)
                if answer.kind != "native":
                    later = served(alternative, architecture, own, first=False)
                    of_kind.append((part, alternative, answer, answer == later))
        for lack in lacking[key, first]:
            found.setdefault(lack, []).append(layer)
    lacks = tuple(Lack(s, a, answer, tuple(at)) for (s, a, answer, _), at in found.items())
    return Fit(architecture, tuple(architecture.of_model(shape, computation)), lacks)


def _others(support: Support, values: Iterable[int]) -> set[int]:
    """Return all values but the most frequent one; none if `support` is native, as the architecture can mix them."""
    if support == NATIVE:
        return set()
    found = Counter(values)
    return set(found) - {value for value, _ in found.most_common(1)}


def _is_mixture(alone: Shape) -> bool:
    return alone.ffn == "moe" and alone.routing != (1, 1)


def zero_attention(architecture: Architecture) -> GqaAttention:
    """Return the smallest attention that the architecture can run in one layer, which stands in for a removed one."""
    return GqaAttention(kv_heads=1, heads=1 if architecture.heads == NATIVE else None)


def extra_params(
    architecture: Architecture, found: Lowered, shape: Shape, alternative: Alternative | None = None
) -> int:
    """Return the parameters that a rewrite adds to an alternative (None: to the model); FFNs are padded to the parent's width."""
    hidden, widest = shape.hidden, MlpFfn(width=max(shape.intermediate, architecture.zero_ffn_width))
    match found.way:
        case "zero_ffn" if isinstance(architecture.width, Lowered):
            return widest.params(shape)
        case "zero_ffn":
            return MlpFfn(width=architecture.zero_ffn_width).params(shape)
        case "zero_attention":
            return zero_attention(architecture).params(shape)
        case "zero_linear":
            return hidden * hidden + hidden
        case "biased_ffn" | "extra_layer":
            return 2 * hidden * hidden + 3 * hidden
        case "pad_width":
            assert alternative is not None
            return max(widest.params(shape) - alternative.params(shape), 0)
        case "pad_experts":
            assert alternative is not None
            return PARENTS["ffn"].params(shape) - alternative.params(shape)
        case "copy_embedding":
            return hidden * shape.vocab
        case _:
            assert_never(found.way)


def engine_of(hardware: Hardware) -> Engine | None:
    """Return the engine that models are exported to for measuring; None for PyTorch, and for hardware that is not measured."""
    spec = hardware.spec
    if not isinstance(spec, MeasuredHardware) or spec.engine == TORCH:
        return None
    return ENGINES[spec.engine]


def served_type(program: Program, space: str) -> str | None:
    """Return the default type of weights where llama.cpp is measured with a space; None if there is none, or several."""
    measured = (hardware.spec for _, hardware in measured_in(program, space))
    served = (spec for spec in measured if isinstance(spec, MeasuredHardware))
    found = {spec.dtype for spec in served if spec.engine == "llama_cpp"}
    return found.pop() if len(found) == 1 else None


def has_ladder(hardware: Hardware) -> bool:
    """Return True for hardware whose engine has a ladder: files that its own quantiser makes are measured beside children."""
    engine = engine_of(hardware)
    return engine is not None and engine.ladder


def is_joined(hardware: Hardware) -> bool:
    """Return True for hardware whose engine passes prompts and tokens of one step through the model together."""
    engine = engine_of(hardware)
    return engine is not None and engine.joined


def fit_in(program: Program, space: str, engine: Engine) -> Fit:
    """Return the engine's architecture that suits all children of a space best, the parent among them, and what it lacks."""
    here = program.spaces[space]
    parent = program.parents[here.parent]
    choices = [(layer.with_parent().attention, layer.with_parent().ffn) for layer in here.layers]
    return fit(RUNTIMES[engine.name], parent.shape, choices, parent.computation)


def unlike_cache(program: Program, space: str, hardware: Hardware) -> tuple[int, Alternative] | None:
    """Return the first (layer, attention) whose KV cache the hardware does not store in the type that the space says; else None.

    None, too, if the space names no type of a KV cache, and for tables, which have rows for the space's own alternatives.
    """
    here, spec = program.spaces[space], hardware.spec
    types = {each.kv_cache for layer in here.layers for each in layer.attention}
    if isinstance(spec, TableHardware) or types == {None}:
        return None
    layers = enumerate(zip(here.layers, program.parents[here.parent].shape.each, strict=True))
    cached = [(i, a) for i, (layer, own) in layers for a in layer.attention if a.alone(own).cached_heads]
    known = ENGINES[spec.engine].caches if isinstance(spec, MeasuredHardware) else (*CACHES,)
    unlike: dict[str | None, bool] = {name: name not in known for name in CACHES}
    unlike[None] = spec.kv_dtype not in UNROUNDED
    return next((pair for pair in cached if unlike[pair[1].cache]), None)


def of_one_cache(space: Space, shape: Shape) -> dict[CacheName | None, Space]:
    """Return, by type of KV cache, the space of the children with this type in all layers; only types that a child can have."""
    held = [
        {a: a.alone(own).cached_heads > 0 for a in c.attention}
        for c, own in zip(space.layers, shape.each, strict=True)
    ]
    types = dict.fromkeys(a.cache for layer in held for a, has_cache in layer.items() if has_cache)
    found = {}
    for of in types:
        kept = [tuple(a for a, has in layer.items() if a.cache == of or not has) for layer in held]
        if all(kept):
            both = zip(space.layers, kept, strict=True)
            layers = tuple(choice.model_copy(update={"attention": own}) for choice, own in both)
            found[of] = space.model_copy(update={"layers": layers})
    return found


def measured_in(program: Program, space: str) -> Iterator[tuple[Scenario, Hardware]]:
    """Yield the scenarios on hardware whose engine runs every child of the space, with KV caches as the space says."""
    for scenario in program.scenarios.values():
        hardware = program.hardware[scenario.hardware]
        if isinstance(hardware.spec, MeasuredHardware):
            engine = engine_of(hardware)
            lacks = engine is not None and any(fit_in(program, space, engine).absent)
            if not lacks and unlike_cache(program, space, hardware) is None:
                yield scenario, hardware
