"""Laws of optima that need no second solver."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from hypothesis import Phase, assume, given
from hypothesis import strategies as st

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.nodes import CountTerm, FactTerm, Linear, LinearRequirement, Term
from puzzledsl.ir.tables import ScenarioCosts, SearchResult
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.search.instances import Instance, alike, problems, quick

generated = quick(12, phases=[Phase.explicit, Phase.reuse, Phase.generate])


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


@generated
@given(problems(logic=False), st.data())
def test_adding_an_alternative_never_worsens(instance: Instance, data: st.DataObject) -> None:
    layer, part = a_sub_block(instance, data)
    names = getattr(instance.layers[layer], part)
    assume(len(names) > 1)
    fewer = instance.layers[layer].model_copy(update={part: names[1:]})
    narrow = instance.changed(lambda field, old: replaced(old, layer, fewer) if field == "layers" else old)
    assert no_worse(instance, solved(instance), solved(narrow))


def a_sub_block(instance: Instance, data: st.DataObject) -> tuple[int, str]:
    return data.draw(st.integers(0, len(instance.layers) - 1)), data.draw(st.sampled_from(SUB_BLOCKS))


def replaced(values: tuple[Any, ...], layer: int, value: Any) -> tuple[Any, ...]:
    return (*values[:layer], value, *values[layer + 1 :])


@generated
@given(problems(), st.data())
def test_adding_a_duplicate_changes_nothing(instance: Instance, data: st.DataObject) -> None:
    """An alternative that scores, costs and counts as another of its layer does: the optimum, its bound and status stay."""
    layer, part = a_sub_block(instance, data)
    name = data.draw(st.sampled_from([a.name for a in getattr(instance.layers[layer], part)]))
    requirements = tuple(r for r in instance.search.requirements if not tells_apart(r))
    assume(not tells_apart(instance.search))
    instance = instance.with_search(requirements=requirements, preferences=())
    one, other = solved(instance), solved(doubled(instance, layer, part, name))
    assert (one.status, one.objective, one.bound) == (other.status, other.objective, other.bound)


TWINS: dict[str, Any] = {"attention": GqaAttention(kv_heads=2, window=4), "ffn": MlpFfn(width=4)}


def tells_apart(part: Frozen) -> bool:
    """True if it asks what an alternative is, and not only what it scores and costs."""
    return any(f'"kind":"{kind}"' in part.model_dump_json() for kind in ("fact", "count", "logic"))


def doubled(instance: Instance, layer: int, part: str, name: str) -> Instance:
    """With a twin among a layer's alternatives, an equal of `name` in every table."""
    own = TWINS[part].name

    def twice(field: str, values: Any) -> Any:
        """The layer's table with the twin's entries: of the sub-block, and of each pair that it is in."""
        old = values[layer]
        if field == "layers":
            wider = old.model_copy(update={part: (*getattr(old, part), TWINS[part])})
            return replaced(values, layer, wider)
        if field not in (part, f"params_{part}", "pairs"):
            return values
        table = dict(old)
        for key, value in old.items():
            pair = key.split("/")
            if len(pair) == 2 and pair[part == "ffn"] == name:
                pair[part == "ffn"] = own
                table["/".join(pair)] = value
            elif key == name:
                table[own] = value
        return replaced(values, layer, table)

    made = instance.changed(twice)
    if name != "parent":
        return made
    score = made.scores["kl"]  # the parent is not written down where it is 0
    field, key = part, own
    if score.pairs:
        field, key = "pairs", f"{own}/parent" if part == "attention" else f"parent/{own}"
    values = getattr(score, field)
    values = replaced(values, layer, {key: 0.0, **values[layer]})
    return replace(made, scores={"kl": score.model_copy(update={field: values})})


@generated
@given(problems(logic=False), st.data(), st.sampled_from(["1/100", "1/10", "1"]))
def test_tightening_never_improves_and_loosening_never_worsens(
    instance: Instance, data: st.DataObject, by: str
) -> None:
    """Dropping it loosens it most."""
    asked = instance.search.requirements
    bounded = [i for i, r in enumerate(asked) if r.kind == "linear" and r.op != "==" and r.bound is not None]
    assume(bounded)
    index = data.draw(st.sampled_from(bounded))
    requirement = asked[index]
    assert isinstance(requirement, LinearRequirement) and requirement.bound is not None
    step = Fraction(by) * (abs(requirement.bound) + 1) * (-1 if requirement.op in ("<=", "<") else 1)

    def moved(amount: Fraction) -> Instance:
        other = requirement.model_copy(update={"bound": requirement.bound + amount})
        return instance.with_search(requirements=replaced(asked, index, other))

    here, without = solved(instance), instance.with_search(requirements=(*asked[:index], *asked[index + 1 :]))
    assert no_worse(instance, here, solved(moved(step)))
    looser = solved(moved(-step))
    assert no_worse(instance, looser, here) and no_worse(instance, solved(without), looser)


@generated
@given(problems(logic=False), st.data())
def test_permuting_layers_never_changes_the_optimum(instance: Instance, data: st.DataObject) -> None:
    """Everything that is a layer's moves with it: layers of equal tables are a case of that, where nothing at all changes."""
    order = data.draw(st.permutations(range(len(instance.layers))))
    if data.draw(st.booleans()):
        instance = permuted = alike(instance)
    else:
        permuted = instance.changed(lambda _, v: tuple(v[order.index(i)] for i in range(len(v))))
    one, other = solved(instance), solved(permuted.with_search(**terms_moved(instance, order)))
    assert (one.status, one.objective) == (other.status, other.objective)


def terms_moved(instance: Instance, order: list[int]) -> dict[str, Any]:
    def term(t: Term) -> Term:
        if isinstance(t, FactTerm | CountTerm):
            return t.model_copy(update={"layers": tuple(sorted(order[i] for i in t.layers))})
        return t

    def linear(value: Linear) -> Linear:
        terms = tuple(w.model_copy(update={"term": term(w.term)}) for w in value.terms)
        return value.model_copy(update={"terms": terms})

    search = instance.search
    return {
        "objective": linear(search.objective),
        "requirements": tuple(
            r.model_copy(update={"left": linear(r.left)})
            for r in search.requirements
            if isinstance(r, LinearRequirement)
        ),
        "preferences": tuple(p.model_copy(update={"goal": linear(p.goal)}) for p in search.preferences),
    }


@generated
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
        assert other.objective == float(answer(instance, one).linear(objective) * factor)


def answer(instance: Instance, result: SearchResult) -> Child:
    """The first answer, in this search."""
    tables, solution = tables_of(*instance.args), result.solutions[0]
    return Child(tables, solution.layers, {n: solution.batches[n] for n in tables.scenarios})


@generated
@given(problems())
def test_a_requirement_that_the_answer_meets_with_room_can_go(instance: Instance) -> None:
    """Dropping what is not in the way changes nothing; adding again what the answer meets changes nothing either."""
    here = solved(instance)
    assume(here.solutions)
    for index, requirement in enumerate(instance.search.requirements):
        kept = tuple(r for i, r in enumerate(instance.search.requirements) if i != index)
        other = solved(instance.with_search(requirements=kept))
        child = answer(instance, other)
        if child.meets(requirement) and all(map(child.fits, child.tables.scenarios)):
            assert other.objective == here.objective


@generated
@given(problems())
def test_saying_a_requirement_twice_changes_nothing(instance: Instance) -> None:
    twice = instance.with_search(requirements=instance.search.requirements * 2)
    one, other = solved(instance), solved(twice)
    assert (one.status, one.objective) == (other.status, other.objective)
    assert [s.layers for s in one.solutions] == [s.layers for s in other.solutions]


@generated
@given(problems())
def test_batches_together_are_the_best_of_each_alone(instance: Instance) -> None:
    """Boxes that cannot beat the best answer so far are left out; others never are.

    `batch(auto)` is no choice: the largest that fits runs.
    """
    listed = instance.costs.scenarios["chat"]
    assume(len(listed) > 1 and not any(costs.capacity_bytes for costs in listed))
    together = solved(instance)
    each_alone = {costs.batch: solved(of_batch(instance, costs)) for costs in listed}
    assert together.status in ("optimal", "infeasible")
    if together.status == "infeasible":
        assert {one.status for one in each_alone.values()} == {"infeasible"}
        return
    assert all(no_worse(instance, together, one) for one in each_alone.values())
    chosen = together.solutions[0].batches.get("chat")
    if chosen is not None:  # else no requirement and no goal asks for a batch
        assert each_alone[chosen].objective == together.objective
        assert each_alone[chosen].solutions[0].layers == together.solutions[0].layers


def of_batch(instance: Instance, measured: ScenarioCosts) -> Instance:
    """With one batch measured."""
    costs = instance.costs.model_copy(update={"scenarios": {"chat": (measured,)}})
    return replace(instance, costs=costs)
