"""Laws of optima that need no second solver."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.nodes import (
    CountTerm,
    FactTerm,
    LayerChoice,
    Linear,
    LinearRequirement,
    Requirement,
    Term,
    WeightedTerm,
)
from puzzledsl.ir.tables import ScoreTable, SearchResult
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.cases import cases
from tests.search.instances import Instance, problems

quick: Any = settings(
    deadline=None,
    max_examples=cases(12),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def solved(instance: Instance) -> SearchResult:
    return solve_search(*instance.args)


def no_worse(instance: Instance, one: SearchResult, other: SearchResult) -> bool:
    """True if `one` is at least as good as `other`; no answer is the worst."""
    if other.objective is None:
        return True
    if one.objective is None:
        return False
    sign = 1 if instance.search.sense == "minimize" else -1
    return sign * one.objective <= sign * other.objective


def with_layers(instance: Instance, layers: tuple[LayerChoice, ...]) -> Instance:
    space = instance.program.spaces["wide"].model_copy(update={"layers": layers})
    return Instance(
        instance.program.model_copy(update={"spaces": {"wide": space}}), instance.costs, instance.scores
    )


@quick
@given(problems(logic=False), st.data())
def test_adding_an_alternative_never_worsens(instance: Instance, data: st.DataObject) -> None:
    layers = instance.program.spaces["wide"].layers
    layer = data.draw(st.integers(0, len(layers) - 1))
    part = data.draw(st.sampled_from(["attention", "ffn"]))
    names = getattr(layers[layer], part)
    assume(len(names) > 1 and not any(s.capacity_bytes for s in instance.costs.scenarios["chat"]))
    fewer = layers[layer].model_copy(update={part: names[1:]})
    narrow = with_layers(instance, (*layers[:layer], fewer, *layers[layer + 1 :]))
    assert no_worse(instance, solved(instance), solved(narrow))


@quick
@given(problems(), st.data())
def test_adding_a_duplicate_changes_nothing(instance: Instance, data: st.DataObject) -> None:
    """An alternative that scores, costs and counts as another of its layer does: the optimum, its bound and status stay."""
    layer = data.draw(st.integers(0, len(instance.program.spaces["wide"].layers) - 1))
    part = data.draw(st.sampled_from(["attention", "ffn"]))
    twin = TWINS[part]
    names = [a.name for a in getattr(instance.program.spaces["wide"].layers[layer], part)]
    name = data.draw(st.sampled_from(names))
    requirements = [r for r in instance.search.requirements if not tells_apart(r)]
    assume(not tells_apart(instance.search))
    instance = instance.with_search(requirements=tuple(requirements), preferences=())
    one, other = solved(instance), solved(doubled(instance, layer, part, name, twin))
    assert (one.status, one.objective, one.bound) == (other.status, other.objective, other.bound)


TWINS: dict[str, Any] = {"attention": GqaAttention(kv_heads=2, window=4), "ffn": MlpFfn(width=4)}


def tells_apart(part: Frozen) -> bool:
    """True if it asks what an alternative is, and not only what it scores and costs."""
    return any(f'"kind":"{kind}"' in part.model_dump_json() for kind in ("fact", "count", "logic"))


def doubled(instance: Instance, layer: int, part: str, name: str, twin: Any) -> Instance:
    """With `twin` among a layer's alternatives, an equal of `name` in every table."""
    own = twin.name

    def twice(values: Any) -> Any:
        """A layer's table with the twin's entries: of the sub-block, and of each pair that it is in."""
        if not values:
            return values
        table = dict(values[layer])
        for key, value in values[layer].items():
            pair = key.split("/")
            if len(pair) == 2 and pair[part == "ffn"] == name:
                pair[part == "ffn"] = own
                table["/".join(pair)] = value
            elif key == name:
                table[own] = value
        return (*values[:layer], table, *values[layer + 1 :])

    def changed(model: Any, *fields: str) -> Any:
        return model.model_copy(update={f: twice(getattr(model, f)) for f in fields})

    layers = instance.program.spaces["wide"].layers
    wider = layers[layer].model_copy(update={part: (*getattr(layers[layer], part), twin)})
    costs = changed(instance.costs, f"params_{part}")
    chat = tuple(changed(c, part, "pairs") for c in costs.scenarios["chat"])
    score = instance.scores["kl"]
    score = changed(score, "pairs") if score.pairs else changed(score, part)
    if name == "parent":  # is not written down where it is 0
        score = score.model_copy(update=_zeros(score, instance, layer, part, own))
    moved = with_layers(instance, (*layers[:layer], wider, *layers[layer + 1 :]))
    return Instance(moved.program, costs.model_copy(update={"scenarios": {"chat": chat}}), {"kl": score})


def _zeros(score: ScoreTable, instance: Instance, layer: int, part: str, own: str) -> dict[str, Any]:
    """The scores that a twin of the parent lacks."""
    field = "pairs" if score.pairs else part
    values = getattr(score, field)
    key = own if not score.pairs else (f"{own}/parent" if part == "attention" else f"parent/{own}")
    return {field: (*values[:layer], {key: 0.0, **values[layer]}, *values[layer + 1 :])}


@quick
@given(problems(logic=False), st.data(), st.sampled_from(["1/100", "1/10", "1"]))
def test_tightening_never_improves_and_loosening_never_worsens(
    instance: Instance, data: st.DataObject, by: str
) -> None:
    bounded = [
        i
        for i, r in enumerate(instance.search.requirements)
        if isinstance(r, LinearRequirement) and r.op != "==" and r.bound is not None
    ]
    assume(bounded)
    index = data.draw(st.sampled_from(bounded))
    requirement = instance.search.requirements[index]
    assert isinstance(requirement, LinearRequirement) and requirement.bound is not None
    step = Fraction(by) * (abs(requirement.bound) + 1) * (-1 if requirement.op in ("<=", "<") else 1)

    def moved(amount: Fraction) -> Instance:
        assert isinstance(requirement, LinearRequirement) and requirement.bound is not None
        other: Requirement = requirement.model_copy(update={"bound": requirement.bound + amount})
        kept = list(instance.search.requirements)
        kept[index] = other
        return instance.with_search(requirements=tuple(kept))

    here = solved(instance)
    assert no_worse(instance, here, solved(moved(step)))
    assert no_worse(instance, solved(moved(-step)), here)


@quick
@given(problems(logic=False), st.data())
def test_permuting_layers_never_changes_the_optimum(instance: Instance, data: st.DataObject) -> None:
    """Everything that is a layer's moves with it: layers of equal tables are a case of that, where nothing at all changes."""
    count = len(instance.program.spaces["wide"].layers)
    order = data.draw(st.permutations(range(count)))
    if data.draw(st.booleans()):
        instance = equal_layers(instance)
        permuted = instance.with_search(**terms_moved(instance, order))
    else:
        permuted = moved_layers(instance, order).with_search(**terms_moved(instance, order))
    one, other = solved(instance), solved(permuted)
    assert (one.status, one.objective) == (other.status, other.objective)


def equal_layers(instance: Instance) -> Instance:
    """Every layer gets what layer 0 has."""
    return _tables(instance, lambda values: (values[0],) * len(values) if values else values)


def moved_layers(instance: Instance, order: list[int]) -> Instance:
    """Layer i becomes layer order[i]."""

    def moved(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[order.index(i)] for i in range(len(values)))

    return _tables(instance, moved)


def _tables(instance: Instance, change: Any) -> Instance:
    def changed(model: Any, *fields: str) -> Any:
        return model.model_copy(update={f: change(getattr(model, f)) for f in fields})

    costs = changed(instance.costs, "params_attention", "params_ffn")
    chat = tuple(changed(c, "attention", "ffn", "pairs") for c in costs.scenarios["chat"])
    costs = costs.model_copy(update={"scenarios": {"chat": chat}})
    scores = {"kl": changed(instance.scores["kl"], "attention", "ffn", "pairs")}
    moved = with_layers(instance, change(instance.program.spaces["wide"].layers))
    return Instance(moved.program, costs, scores)


def terms_moved(instance: Instance, order: list[int]) -> dict[str, Any]:
    def term(t: Term) -> Term:
        if isinstance(t, FactTerm | CountTerm):
            return t.model_copy(update={"layers": tuple(sorted(order[i] for i in t.layers))})
        return t

    def linear(value: Linear) -> Linear:
        return value.model_copy(
            update={
                "terms": tuple(
                    WeightedTerm(coefficient=w.coefficient, term=term(w.term)) for w in value.terms
                )
            }
        )

    search = instance.search
    requirements = [
        r.model_copy(update={"left": linear(r.left)})
        for r in search.requirements
        if isinstance(r, LinearRequirement)
    ]
    return {
        "objective": linear(search.objective),
        "requirements": tuple(requirements),
        "preferences": tuple(p.model_copy(update={"goal": linear(p.goal)}) for p in search.preferences),
    }


@quick
@given(problems(), st.sampled_from(["3", "1/7", "1000"]))
def test_scaling_the_goal_scales_the_optimum_and_keeps_the_answer(instance: Instance, by: str) -> None:
    objective = instance.search.objective
    assume(not any(getattr(w.term, "metric", "") == "throughput" for w in objective.terms))
    factor = Fraction(by)
    scaled = objective.model_copy(
        update={
            "constant": objective.constant * factor,
            "terms": tuple(
                w.model_copy(update={"coefficient": w.coefficient * factor}) for w in objective.terms
            ),
        }
    )
    one, other = solved(instance), solved(instance.with_search(objective=scaled))
    assert one.status == other.status
    if one.solutions:
        assert [s.layers for s in one.solutions] == [s.layers for s in other.solutions]
        tables = tables_of(*instance.args)
        batches = {n: b for n, b in one.solutions[0].batches.items() if n in tables.scenarios}
        exact = Child(tables, one.solutions[0].layers, batches).linear(objective)
        assert other.objective == float(exact * factor)


@quick
@given(problems(), st.data())
def test_a_requirement_that_the_answer_meets_with_room_can_go(
    instance: Instance, data: st.DataObject
) -> None:
    """Dropping what is not in the way changes nothing; adding again what the answer meets changes nothing either."""
    here = solved(instance)
    assume(here.solutions)
    for index in range(len(instance.search.requirements)):
        kept = tuple(r for i, r in enumerate(instance.search.requirements) if i != index)
        without = instance.with_search(requirements=kept)
        other = solved(without)
        tables = tables_of(*instance.args)
        batches = {n: b for n, b in other.solutions[0].batches.items() if n in tables.scenarios}
        if len(batches) == len(tables.scenarios):
            child = Child(tables, other.solutions[0].layers, batches)
            dropped = instance.search.requirements[index]
            if child.meets(dropped) and all(child.fits(n) for n in tables.scenarios):
                assert other.objective == here.objective


@quick
@given(problems())
def test_saying_a_requirement_twice_changes_nothing(instance: Instance) -> None:
    twice = instance.with_search(requirements=instance.search.requirements * 2)
    one, other = solved(instance), solved(twice)
    assert (one.status, one.objective) == (other.status, other.objective)
    assert [s.layers for s in one.solutions] == [s.layers for s in other.solutions]


@quick
@given(problems())
def test_batches_together_are_the_best_of_each_alone(instance: Instance) -> None:
    """Boxes that cannot beat the best answer so far are left out; others never are.

    `batch(auto)` is no choice: the largest that fits runs.
    """
    batches = [table.batch for table in instance.costs.scenarios["chat"]]
    assume(len(batches) > 1 and not any(s.capacity_bytes for s in instance.costs.scenarios["chat"]))
    together = solved(instance)
    alone = {batch: solved(of_batch(instance, batch)) for batch in batches}
    assert together.status in ("optimal", "infeasible")
    if together.status == "infeasible":
        assert {one.status for one in alone.values()} == {"infeasible"}
        return
    assert all(no_worse(instance, together, one) for one in alone.values())
    chosen = together.solutions[0].batches.get("chat")
    if chosen is not None:  # else no requirement and no goal asks for a batch
        assert alone[chosen].objective == together.objective
        assert alone[chosen].solutions[0].layers == together.solutions[0].layers


def of_batch(instance: Instance, batch: int) -> Instance:
    """With one batch measured."""
    chat = tuple(table for table in instance.costs.scenarios["chat"] if table.batch == batch)
    costs = instance.costs.model_copy(update={"scenarios": {"chat": chat}})
    return Instance(instance.program, costs, instance.scores)
