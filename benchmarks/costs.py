"""Error of analytic costs against published serving figures: `python -m benchmarks.costs`.

Data: the throughput tables of TensorRT-LLM's performance overview, three releases (benchmarks/data; sources inside).
The constants are fitted to the cells marked `fit` (on H100, release 1.0: Llama 3.3 70B on two GPUs, 3.1 405B on eight)
and predict all others on H100 and H200, those of the older releases too. A100 (FP16) and L40S (no NVLink) have constants
of their own, fitted to 8B on one GPU and 70B on eight.
Then each ingredient of the model is taken away, the constants are fitted anew, and the error is shown again.
Mixtures: one constant, the efficiency of experts, is fitted to the `fit` cells of a card, all others are Llama's.
Hybrids: published speed-ups over transformers at 8Ki -> 16Ki tokens, with Llama's constants and nothing fitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from unittest.mock import patch

from benchmarks.published import (
    Cell,
    Cells,
    Fit,
    batch_of,
    cells_of,
    determined_by,
    fit_constants,
    forward_seconds,
    mean_absolute,
    predicted_tokens_per_s,
    relative_errors,
)
from puzzledsl.checker.check import shipped_profiles, shipped_shapes
from puzzledsl.costs import roofline
from puzzledsl.ir.nodes import RooflineHardware

FITTED_RELEASE, OTHER_RELEASES = "1.0", ("0.20", "0.17")
OTHER_CARDS = ("0.17_a100", "0.17_l40s")  # with constants of their own
EXPERTS = ("1.0_experts", "1.2_experts")
LIMIT = 0.07
AS_ADVERTISED = {"h100_sxm": 80 * 10**9, "h200": 141 * 10**9}
NEVER = Fraction(10**30)

Change = Callable[[Cell], Cell]


def _profile(**changes: object) -> Change:
    return lambda cell: replace(cell, profile=cell.profile.model_copy(update=changes))


def _batch_of(batch: int) -> Change:
    return lambda cell: replace(cell, batch=batch)


def _advertised(cell: Cell) -> Cell:
    memory = AS_ADVERTISED.get(cell.profile.profile, cell.profile.memory_bytes)
    return _profile(memory_bytes=memory)(cell)


PREFILL, KV_READS = "the time of prefill", "reading the KV cache"
ABLATIONS: dict[str, tuple[Change, tuple[str, ...]]] = {
    PREFILL: (lambda cell: cell, ()),
    "the memory-limited batch (256 everywhere)": (_batch_of(256), ()),
    KV_READS: (lambda cell: cell, ()),
    "overhead per sub-block": (_profile(overhead_s=Fraction(0)), ("overhead_s",)),
    "attention scores in prefill": (_profile(efficiency_attention=NEVER), ("efficiency_attention",)),
    "the all-reduce": (
        _profile(efficiency_link=NEVER, link_latency_s=Fraction(0)),
        ("efficiency_link", "link_latency_s"),
    ),
    "memory as the driver reports it (80 and 141 GB)": (_advertised, ()),
}
"""Ablations: name, the change, and the constants that go with it."""


def shown(fit: Fit) -> str:
    """The constants on one line."""
    return ", ".join(f"{name} {float(value):.4g}" for name, value in fit.constants.items())


def models(cells: Cells) -> str:
    """The models of the fitted cells."""
    return " and ".join(dict.fromkeys(f"{c.model} on {c.profile.gpus}" for c in cells.fitted))


def by_group(cells: Sequence[Cell], errors: Sequence[float]) -> Iterator[str]:
    """A line for each model on each hardware: cells, mean absolute error, mean error."""
    groups: dict[tuple[str, str, int], list[float]] = {}
    for cell, error in zip(cells, errors, strict=True):
        groups.setdefault((cell.profile.profile, cell.model, cell.profile.gpus), []).append(error)
    for (hardware, model, gpus), found in groups.items():
        name = f"{gpus} x {hardware}, {model}"
        mean = sum(found) / len(found)
        yield f"  {name:<36} {len(found):3} cells  {mean_absolute(found):6.1%}  (signed {mean:+.1%})"


def ablation(name: str, cells: Cells) -> str:
    """One line: the error with an ingredient taken away and the constants fitted anew."""
    change, fixed = ABLATIONS[name]
    fitted, held = [change(c) for c in cells.fitted], [change(c) for c in cells.held_out]
    names = [constant for constant in determined_by(fitted) if constant not in fixed]
    predict = _decode_alone if name == PREFILL else predicted_tokens_per_s
    free = patch.object(roofline, "kv_read_s", lambda *_: Fraction(0)) if name == KV_READS else nullcontext()
    with free:
        fit = fit_constants(fitted, held, names, predict)
    return f"  {'without ' + name:<58} {fit.error_held_out:6.1%}  (fitted {fit.error_fitted:.1%})"


def _decode_alone(profile: RooflineHardware, cell: Cell) -> float:
    """Throughput as if reading the prompt took no time."""
    batch = batch_of(profile, cell)
    return float(batch / forward_seconds(profile, cell, batch)[1]) if batch else 0.0


def expert_lines() -> Iterator[str]:
    """Mixtures by release and card: with Llama's constants alone, and with experts fitted to a model's cells on that card."""
    for release in EXPERTS:
        cells = cells_of(release)
        for card in dict.fromkeys(cell.profile.profile for cell in cells.fitted):
            fitted = [cell for cell in cells.fitted if cell.profile.profile == card]
            fit = fit_constants(fitted, (), ("efficiency_experts",))
            before = mean_absolute(relative_errors(fitted, {}))
            yield (
                f"release {release}: experts reach {float(fit.constants['efficiency_experts']):.1%} of the peak on {card}, "
                f"fitted to {len(fitted)} cells of {fitted[0].model}: {before:.1%} before, {fit.error_fitted:.1%} after"
            )
            for other in EXPERTS:
                held = [c for c in cells_of(other).held_out if c.shape.family == fitted[0].shape.family]
                errors = relative_errors(held, fit.constants)
                yield from (f"  {line.strip()} (release {other})" for line in by_group(held, errors))


HYBRIDS: tuple[tuple[str, str, str, dict[str, str], float], ...] = (
    ("h100_sxm", "nemotron_nano_9b_v2", "qwen3_8b", {}, 6.3),
    ("h200", "nemotron_3_nano_30b_a3b", "qwen3_30b_a3b", {"dtype": "fp8", "kv_dtype": "fp8"}, 3.3),
    ("h200", "nemotron_3_nano_30b_a3b", "gpt_oss_20b", {"dtype": "fp8", "kv_dtype": "fp8"}, 2.2),
)
"""Card, hybrid, transformer, types and published speed-up at 8Ki -> 16Ki: arXiv 2508.14444 (figure 1) and 2512.20848."""


def hybrid_lines() -> Iterator[str]:
    """Predicted and published speed-ups of hybrids."""
    shapes, profiles = shipped_shapes(), shipped_profiles()
    for card, hybrid, other, types, published in HYBRIDS:
        speeds = []
        for model in (hybrid, other):
            own = {"expert_dtype": "mxfp4"} if model.startswith("gpt_oss") else types
            profile = profiles[card].model_copy(update=own)
            speeds.append(
                predicted_tokens_per_s(profile, Cell(profile, shapes[model], model, 8192, 16384, 1.0))
            )
        ratio = speeds[0] / speeds[1]
        yield f"  {hybrid} over {other} on {card}: {ratio:.1f}x predicted, {published}x published"


def main() -> int:
    """Print everything; 1 where held-out cells are predicted worse than the limit."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    cells = cells_of(FITTED_RELEASE)
    fit = fit_constants(cells.fitted, cells.held_out)
    print(f"TensorRT-LLM {FITTED_RELEASE}: fitted to {len(cells.fitted)} cells of {models(cells)}")
    print(f"  {shown(fit)}")
    print(f"  error on these {fit.error_fitted:.1%}")
    print(f"held out, release {FITTED_RELEASE}: {len(cells.held_out)} cells, {fit.error_held_out:.1%}")
    print("\n".join(by_group(cells.held_out, fit.errors)))
    for release in OTHER_RELEASES:
        others = cells_of(release).held_out
        errors = relative_errors(others, fit.constants)
        print(f"held out, release {release}: {len(others)} cells, {mean_absolute(errors):.1%}")
        print("\n".join(by_group(others, errors)))
    for card in OTHER_CARDS:
        own = cells_of(card)
        its = fit_constants(own.fitted, own.held_out)
        hardware = own.fitted[0].profile.profile
        print(f"{hardware}, release 0.17: fitted to {len(own.fitted)} cells of {models(own)}")
        print(f"  {shown(its)}")
        print(
            f"  error on these {its.error_fitted:.1%}; held out: {len(own.held_out)} cells, {its.error_held_out:.1%}"
        )
        print("\n".join(by_group(own.held_out, its.errors)))
    print("mixtures of experts")
    print("\n".join(expert_lines()))
    print("hybrids")
    print("\n".join(hybrid_lines()))
    print(f"each ingredient's worth, on the {len(cells.held_out)} held-out cells of release {FITTED_RELEASE}")
    print(f"  {'all of them':<58} {fit.error_held_out:6.1%}  (fitted {fit.error_fitted:.1%})")
    for name in ABLATIONS:
        print(ablation(name, cells))
    return int(fit.error_held_out is None or fit.error_held_out > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
