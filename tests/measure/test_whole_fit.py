"""Costs that whole models are made of are found again, with noise, outliers and more alternatives than models tell apart."""

import random
from statistics import fmean

import pytest

from puzzledsl.checker.check import check
from puzzledsl.measure.estimate import FIXED, Check
from puzzledsl.measure.host import searched_child
from puzzledsl.measure.whole_fit import fit_whole, mixture, models_needed

LAYERS = 12
TRUE = {
    FIXED: 3e-3,
    ("attention", "parent"): 2e-3,
    ("attention", "gqa1"): 1.6e-3,
    ("attention", "noop"): 0.0,
    ("ffn", "parent"): 3e-3,
    ("ffn", "mlp8"): 1.1e-3,
    ("ffn", "noop"): 0.0,
}
LABELS = {"attention": ("parent", "gqa1", "noop"), "ffn": ("parent", "mlp8", "noop")}
PARENT = [("attention", "parent")] * LAYERS + [("ffn", "parent")] * LAYERS
PRIOR = {key: {"noop": 0.0, "gqa1": 1.0}.get(key[1], 1.5) for key in TRUE}
"""Wrong, but not by orders of magnitude."""
OWN = ("parent",) * LAYERS


def time_of(arrangement) -> float:
    return TRUE[FIXED] + sum(TRUE[s, name] for s in ("attention", "ffn") for name in arrangement[s])


def a_check(child, parent_s: float, child_s: float, ends: str = "") -> Check:
    times = {"parent_prefill_s": parent_s, "child_prefill_s": child_s, "parent_decode_s": parent_s}
    return Check(
        seed=0, attention=child["attention"], ffn=child["ffn"], **times, child_decode_s=child_s, ends=ends
    )


def checks(seed, *, noise=0.0, slowness=lambda dice: 1.0, disturbed=lambda i: 1.0):
    dice = random.Random(seed)
    parent = time_of({"attention": OWN, "ffn": OWN})
    for i in range(models_needed(LABELS)):
        child = mixture(LABELS, (0,) * LAYERS, i)
        slow = slowness(dice)
        seconds = time_of(child) * slow * dice.gauss(1, noise) * disturbed(i)
        yield a_check(child, parent * slow, seconds)


def worst(found, children=20) -> float:
    """The largest relative error of a random child's time, after the parent's is made equal."""
    parent = time_of({"attention": OWN, "ffn": OWN})
    errors = []
    for seed in range(100, 100 + children):
        child = mixture(LABELS, (0,) * LAYERS, seed)
        predicted = found.sum_of(child["attention"], child["ffn"]) / found.parent_s
        errors.append(abs(predicted / (time_of(child) / parent) - 1))
    return max(errors)


@pytest.mark.parametrize(
    ("seed", "how", "at_most"),
    [
        (0, {"slowness": lambda dice: dice.uniform(1, 3)}, 0.01),  # a machine that slows both changes nothing
        *((seed, {"noise": 0.01}, 0.04) for seed in range(3)),
        (0, {"disturbed": lambda i: 1.5 if i == 2 else 1.0}, 0.05),  # one model counts little
        (5, {"noise": 0.05}, 0.2),
    ],
)
def test_disturbed_times_are_predicted_nearly(seed, how, at_most):
    found = fit_whole(list(checks(seed, **how)), "prefill", PRIOR, PARENT)
    assert worst(found) < at_most
    assert all(seconds >= 0 for seconds in found.seconds.values())


def test_mixtures_hold_every_alternative_and_are_unequal():
    found = [mixture(LABELS, (0,) * LAYERS, seed) for seed in range(models_needed(LABELS))]
    assert found == [mixture(LABELS, (0,) * LAYERS, seed) for seed in range(models_needed(LABELS))]
    for sub_block, labels in LABELS.items():
        counts = [[model[sub_block].count(name) for name in labels] for model in found]
        for column in zip(*counts, strict=True):
            assert max(column) - min(column) >= LAYERS // 3
        assert all(LAYERS // 4 <= of_parent <= LAYERS - LAYERS // 4 for of_parent, *_ in counts)


def test_ends_are_found_beside_the_layers():
    """The head in 4 bits takes less time; its models differ from the parent in layers, too."""
    ends = {"parent/parent": 3e-3, "parent/parent@q8_0": 2.2e-3, "parent/parent@q4_0": 1.2e-3}
    prior = {key: value for key, value in PRIOR.items() if key != FIXED} | {("ends", n): 1.5 for n in ends}
    parent = time_of({"attention": OWN, "ffn": OWN})
    dice, found = random.Random(1), []
    for i in range(models_needed(LABELS, list(ends))):
        child = mixture(LABELS, (0,) * LAYERS, i, list(ends))
        (name,) = child.pop("ends")
        seconds = (time_of(child) - TRUE[FIXED] + ends[name]) * dice.gauss(1, 0.005)
        found.append(a_check(child, parent, seconds, name))
    fitted = fit_whole(found, "decode", prior, [*PARENT, ("ends", "parent/parent")])
    for name, seconds in ends.items():
        saved = fitted.seconds["ends", "parent/parent"] - fitted.seconds["ends", name]
        assert saved == pytest.approx(ends["parent/parent"] - seconds, abs=0.02 * parent)
    assert fitted.sum_of(OWN, OWN, "parent/parent") == pytest.approx(parent, rel=0.01)


TYPES = {"attention": ("parent", "parent@q4_0"), "ffn": ("parent", "noop", "parent@q4_0", "parent@iq4_nl")}
ENDS = ["parent/parent", "parent/parent@q4_0"]
OF_TYPES = {
    ("attention", "parent"): 0.8e-3,
    ("attention", "parent@q4_0"): 0.7e-3,
    ("ffn", "parent"): 1.0e-3,
    ("ffn", "noop"): 0.0,
    ("ffn", "parent@q4_0"): 0.8e-3,
    ("ffn", "parent@iq4_nl"): 0.82e-3,
    ("ends", "parent/parent"): 18e-3,
    ("ends", "parent/parent@q4_0"): 15e-3,
}
BYTES = {key: {"noop": 0.0}.get(key[1], 0.53 if "4" in key[1] else 1.0) for key in OF_TYPES}
BYTES |= {key: 10 * BYTES[key] for key in OF_TYPES if key[0] == "ends"}
DEPTH = 30


def time_of_types(child) -> float:
    return sum(OF_TYPES[part, name] for part, names in child.items() for name in names)


def errors_of_searched(seed: int, space, corrected: bool) -> list[float]:
    """Return predicted / true time - 1 of children that a search chooses by a table made of models with 3 % of noise."""
    dice, found = random.Random(seed), list[Check]()
    parent = {"attention": ("parent",) * DEPTH, "ffn": ("parent",) * DEPTH, "ends": (ENDS[0],)}
    whole = time_of_types(parent)
    prior = {key: BYTES[key] * (3 if key[0] == "ffn" else 1) for key in OF_TYPES}
    own = [(part, name) for part, names in parent.items() for name in names]

    def timed(child) -> Check:
        return a_check(child, whole, time_of_types(child) * dice.gauss(1, 0.03), child["ends"][0])

    for number in range(models_needed(TYPES, ENDS)):
        found.append(timed(mixture(TYPES, (0,) * DEPTH, number, ENDS)))
    table = fit_whole(found, "decode", prior, own)
    for number in range(3 if corrected else 0):
        found.append(timed(searched_child(space, (0,) * DEPTH, table.seconds, BYTES, number)))
        table = fit_whole(found, "decode", prior, own)
    children = [searched_child(space, (0,) * DEPTH, table.seconds, BYTES, 50 + other) for other in range(6)]
    predicted = [table.sum_of(c["attention"], c["ffn"], c["ends"][0]) / table.parent_s for c in children]
    return [share / (time_of_types(c) / whole) - 1 for share, c in zip(predicted, children, strict=True)]


def test_searched_children_correct_the_table_that_flatters_them(tmp_path):
    path = tmp_path / "types.pzl"
    path.write_text(
        """use "std/parents.pzl" (smollm2_135m)
parent p = hf("parent", shape: smollm2_135m)
space w of p {
  attention = parent(dtype: full | q4_0), ffn = parent(dtype: full | q4_0 | iq4_nl) | noop
  head = parent(dtype: full | q4_0)
}
"""
    )
    space = check(path).program.spaces["w"]
    plain, corrected = (
        [error for seed in range(12) for error in errors_of_searched(seed, space, how)]
        for how in (False, True)
    )
    assert -0.06 < fmean(plain) < -0.01  # what seems fast is chosen
    assert abs(fmean(corrected)) < 0.02 and abs(fmean(corrected)) < abs(fmean(plain)) / 1.5
    assert max(map(abs, corrected)) < 0.06
