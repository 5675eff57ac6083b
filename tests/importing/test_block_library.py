"""A library of options with only stats and metrics is imported as it is, and solves to the optimum of its own problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plain_cpsat import plain_cpsat
from benchmarks.problems import build_problem
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.checker.check import check
from puzzledsl.cli.main import run
from puzzledsl.costs.table import cost_table
from puzzledsl.importing.puzzletron import read_puzzletron
from puzzledsl.search.score_table import read_score_table
from puzzledsl.search.solve import solve_search
from tests.importing import block_library as made
from tests.importing.block_library import block_library, stats_of, write_library

Library = dict[str, dict[str, Any]]
FIRST = made.name_of(4, 8192)
NO_FFN = made.name_of(4, 0)


def imported(folder: Path, library: Library, *arguments: str) -> Path:
    """The program that a library was imported as."""
    source = write_library(folder / "library", library)
    out = folder / "out"
    assert run(["import", "puzzletron", str(source), "--parent", str(source.parent), "-o", str(out)]) == 0
    return out / "puzzletron.pzl"


def optimum(library: Library, stat: str, share: Decimal) -> Decimal:
    """The least sum of `kl_div` with at most `share` of the parent's figure, by dynamic programming over exact sums."""
    parent = sum(exact(layer[FIRST]["stats"][stat]) for layer in library.values())
    best = {Decimal(0): Decimal(0)}
    for layer in library.values():
        further: dict[Decimal, Decimal] = {}
        for used, value in best.items():
            for option in layer.values():
                at, total = used + exact(option["stats"][stat]), value + exact(option["metrics"]["kl_div"])
                if at <= share * parent and (at not in further or total < further[at]):
                    further[at] = total
        best = undominated(further)
    return min(best.values())


def undominated(sums: dict[Decimal, Decimal]) -> dict[Decimal, Decimal]:
    """Without sums that use more for a value that is no better."""
    kept: dict[Decimal, Decimal] = {}
    for used in sorted(sums):
        if not kept or sums[used] < min(kept.values()):
            kept[used] = sums[used]
    return kept


def exact(value: float) -> Decimal:
    """The decimal that JSON shows."""
    return Decimal(repr(value))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("stat", "metric"), [("runtime_ms", "latency"), ("memory_mib", "memory")])
def test_its_optimum_is_that_of_its_own_problem_and_of_plain_cpsat(
    tmp_path: Path, seed: int, stat: str, metric: str
) -> None:
    library = block_library(seed)
    file = imported(tmp_path, library)
    file.write_text(file.read_text().replace("fp8_64.memory <= 0.7x", f"fp8_64.{metric} <= 0.7x"))
    program = check(file, {}).program
    assert program is not None
    costs = cost_table(program, "puzzle", file.parent)
    table = file.parent / "scores.csv"
    scores = {"kl_div": read_score_table(table, program.scores["kl_div"], program.spaces["puzzle"])}
    result = solve_search(program, "best", costs, scores)
    wanted = optimum(library, stat, Decimal("0.7"))
    assert result.status == "optimal" and result.objective == float(wanted)
    problem = build_problem(program, "best", costs, scores)
    said = plain_cpsat(problem, 60)
    assert said.proven and said.value is not None
    assert float(problem.goal.in_units(said.value) or 0) == result.objective


def test_a_block_costs_what_was_measured_of_it_whole(tmp_path: Path) -> None:
    source = write_library(tmp_path, block_library())
    [measured] = read_puzzletron(source, source.parent).measurements
    assert (measured.name, measured.batch, measured.prompt, measured.output) == ("fp8_64", 64, 1, 1200)
    whole = {
        (cost.layer, cost.attention.name, cost.ffn.name): cost.latency_ms
        for cost in measured.costs
        if cost.attention is not None and cost.ffn is not None
    }
    assert whole[0, "gqa2", "mlp6144"] == exact(stats_of(2, 6144)["runtime_ms"])
    assert (0, "gqa2", "noop") not in whole  # the sum of its sub-blocks


def test_a_width_that_the_name_rounds_is_that_of_the_stats(tmp_path: Path) -> None:
    source = write_library(tmp_path, block_library())
    read = read_puzzletron(source, source.parent)
    assert {f.name for _, f in read.layers[0]} == {"parent", "mlp6144", "mlp2816", "noop"}
    assert {a.name for a, _ in read.layers[0]} == {"parent", "gqa2", "noop"}


def test_a_directory_of_a_library_is_read(tmp_path: Path) -> None:
    write_library(tmp_path, block_library())
    assert len(read_puzzletron(tmp_path, tmp_path).layers) == made.LAYERS


def test_a_library_without_the_parents_config_says_what_is_missing(tmp_path: Path) -> None:
    source = write_library(tmp_path, block_library())
    assert refusal(lambda: read_puzzletron(source)) == (
        f"E1904 `{source}` does not give the parent's n_embd, n_head, vocab_size"
    )


def test_linear_sub_blocks_have_no_size_and_a_name(tmp_path: Path) -> None:
    library = block_library()
    option = library["layer_0"].pop(made.name_of(0, 0))
    library["layer_0"]["attention = linear (parent * 0%)\t&&\tffn = linear (parent * 0%)"] = option
    source = write_library(tmp_path, library)
    assert ("linear", "linear") in {
        (a.name, f.name) for a, f in read_puzzletron(source, source.parent).layers[0]
    }


# ---------------------------------------------------------------- what is malformed


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(DiagnosticError) as caught:
        read()
    return "\n".join(f"{told.code} {told.message}" for told in caught.value.diagnostics)


@pytest.mark.parametrize(
    ("name", "stats", "says"),
    [
        (FIRST, {"num_kv_heads": -1}, "`num_kv_heads` of `attention = 4 kv.*` is no whole number from 0 on"),
        (FIRST, {"num_kv_heads": 1.5}, "`num_kv_heads` of .* is no whole number from 0 on"),
        (FIRST, {"num_kv_heads": "4"}, "`num_kv_heads` of .* is no whole number from 0 on"),
        (FIRST, {"num_kv_heads": True}, "`num_kv_heads` of .* is no whole number from 0 on"),
        (FIRST, {"num_kv_heads": float("nan")}, "`num_kv_heads` of .* is no whole number from 0 on"),
        (FIRST, {"num_kv_heads": 2}, "`attention = 4 kv.*` has `num_kv_heads` 2, but 4 by its name"),
        (
            FIRST,
            {"num_kv_heads": 0},
            "`attention = 4 kv.*` has `num_kv_heads` 0, but is no no-op by its name",
        ),
        (NO_FFN, {"ffn_intermediate_size": 8}, ".* has `ffn_intermediate_size` 8, but none by its name"),
        (
            FIRST,
            {"ffn_intermediate_size": None},
            "`ffn_intermediate_size` of .* is no whole number from 0 on",
        ),
    ],
)
def test_sizes_that_cannot_be_are_named_with_their_option(
    tmp_path: Path, name: str, stats: dict[str, Any], says: str
) -> None:
    library = block_library()
    library["layer_3"][name]["stats"].update(stats)
    source = write_library(tmp_path, library)
    said = refusal(lambda: read_puzzletron(source, source.parent))
    assert re.fullmatch(rf"E1902 cannot use `.*block_library.json`: {says}", said, re.DOTALL), said


def test_a_rounded_width_alone_is_not_enough(tmp_path: Path) -> None:
    library = block_library()
    del library["layer_3"][FIRST]["stats"]["ffn_intermediate_size"]
    source = write_library(tmp_path, library)
    said = refusal(lambda: read_puzzletron(source, source.parent))
    assert said.endswith("has no `ffn_intermediate_size` in its `stats`, and its name rounds the width")


@pytest.mark.parametrize(
    ("measured_at", "says"),
    [
        ([], "an object of `batch_size` and `sequence_length` is expected"),
        ({"batch_size": 0}, "`batch_size` is no whole number above 0"),
        ({"sequence_length": "long"}, "`sequence_length` is no whole number above 0"),
        ({"dtype": 8}, "`dtype` is no text"),
    ],
)
def test_what_it_was_measured_at_is_checked(tmp_path: Path, measured_at: object, says: str) -> None:
    source = write_library(tmp_path, block_library(), measured_at=measured_at)
    said = refusal(lambda: read_puzzletron(source, source.parent))
    assert said == f"E1902 cannot use `{tmp_path / 'measurement_info.json'}`: {says}"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_library_that_is_not_scored_is_told_as_such(tmp_path: Path, wrapped: bool) -> None:
    entries = [{"parent_layer_indices": [0], "child_block_configs": [], "weight_paths": []}]
    file = tmp_path / "replacement_library.json"
    file.write_text(json.dumps({"version": 2, "entries": entries} if wrapped else entries))
    assert "it is a library of replacements without metrics, which" in refusal(lambda: read_puzzletron(file))
