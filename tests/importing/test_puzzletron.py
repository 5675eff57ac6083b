"""A run of another tool is imported, checks, and solves to the optimum of that run's own problem."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.checker.check import check
from puzzledsl.cli.main import run
from puzzledsl.importing.puzzletron import read_puzzletron
from puzzledsl.importing.write import files_of, program_text
from tests.importing.puzzle_run import (
    ATTENTIONS,
    FFNS,
    HEAD_DIM,
    KV,
    LAYERS,
    TOKENS,
    VOCAB,
    loss,
    params_of,
    subblock_stats,
    write_run,
)

Child = Sequence[tuple[int | None, int | None]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that a run was imported as."""
    directory = tmp_path_factory.mktemp("imported")
    source = write_run(directory / "run")
    assert run(["import", "puzzletron", str(source), "-o", str(directory / "out")]) == 0
    return directory / "out" / "puzzletron.pzl"


def memory_mib(child: Child, batch: int) -> float:
    total = (2 * VOCAB * 64 + 64) * 2 / 2**20
    for kv_heads, width in child:
        total += (params_of(kv_heads=kv_heads) + params_of(width=width)) * 2 / 2**20
        total += batch * TOKENS * 2 * (kv_heads or 0) * HEAD_DIM * 2 / 2**20
    return total


def solve(program: Path, capsys: pytest.CaptureFixture[str], *names: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["solve", str(program), *names, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_an_imported_run_checks_and_says_what_was_imported(imported: Path) -> None:
    checked = check(imported, {})
    assert checked.diagnostics == ()
    program = checked.program
    assert program is not None
    assert program.parents["teacher"].shape.head_dim == HEAD_DIM
    assert program.parents["teacher"].shape.kv_heads == KV
    assert sorted(program.scenarios) == ["bf16_16", "bf16_8"]
    assert sorted(program.scores) == [
        "cosine_embedding_loss_hidden_states",
        "lm_loss",
        "token_accuracy_top_1",
    ]
    choice = program.spaces["puzzle"].layers[0]
    assert (len(choice.attention), len(choice.ffn)) == (3, 3)
    assert list(program.searches) == ["target_memory_6MiB"]


def test_its_own_search_has_the_optimum_of_its_own_problem(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [found] = solve(imported, capsys)
    blocks = list(product(ATTENTIONS, FFNS))
    fits = [
        sum(loss(i, *block) for i, block in enumerate(child))
        for child in product(blocks, repeat=LAYERS)
        if memory_mib(child, 16) <= 6.5 and 4 <= sum(kv or 0 for kv, _ in child) <= 14
    ]
    assert found["status"] == "optimal"
    assert found["objective"] == pytest.approx(min(fits), abs=1e-12)
    figures = found["solutions"][0]["metrics"]
    names = {"parent": KV, "gqa2": 2, "noop": None}, {"parent": 256, "mlp128": 128, "noop": None}
    child = [(names[0][c["attention"]], names[1][c["ffn"]]) for c in found["solutions"][0]["layers"]]
    assert figures["bf16_16.memory"] / 2**20 == pytest.approx(memory_mib(child, 16), rel=1e-6)
    # the same child by the other metrics: an accuracy counts as what is lost of it
    total = sum(loss(i, *block) for i, block in enumerate(child))
    assert figures["lm_loss"] == pytest.approx(total) and figures["token_accuracy_top_1"] == pytest.approx(
        total
    )


def test_importing_is_deterministic(tmp_path: Path) -> None:
    source = write_run(tmp_path / "run")
    assert files_of(read_puzzletron(source), tmp_path) == files_of(read_puzzletron(source), tmp_path)


def test_without_run_times_latency_is_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_run(tmp_path / "run", runtime=False, solved=False)
    assert run(["import", "puzzletron", str(source), "-o", str(tmp_path / "out")]) == 0
    program = tmp_path / "out" / "puzzletron.pzl"
    [found] = solve(program, capsys)
    assert found["search"] == "best" and found["status"] == "optimal"
    assert "bf16_16.memory" in found["solutions"][0]["metrics"]
    assert "bf16_16.latency" not in found["solutions"][0]["metrics"]
    program.write_text(program.read_text().replace("bf16_16.memory <= 0.7x", "bf16_16.latency <= 0.7x"))
    assert run(["solve", str(program)]) == 1
    assert "E0508" in capsys.readouterr().err


def test_layers_with_choices_of_their_own_are_overrides(tmp_path: Path) -> None:
    source = write_run(tmp_path / "run")
    for file in (source / "single_sequence_replacement_solutions--validation").glob("solution_*.json"):
        replaced = json.loads(file.read_text())["puzzle_solution"]["single_sequence_replacement"]
        if (
            replaced["parent_layer_indices"][0] in (1, 2)
            and replaced["child_block_configs"][0]["ffn"]["no_op"]
        ):
            file.unlink()
    text = program_text(read_puzzletron(source), tmp_path)
    assert "  layers[1..2].ffn = parent | mlp(width: 128)\n" in text


def test_a_replacement_with_an_infinite_metric_is_left_out_and_said(tmp_path: Path) -> None:
    source = write_run(tmp_path / "run")
    file = source / "single_sequence_replacement_solutions--validation" / "solution_0.json"
    file.write_text(file.read_text().replace('"avg": 0.02', '"avg": NaN'))
    imported = read_puzzletron(source)
    assert imported.left_out == 1
    assert "# 1 replacement has a metric that is not finite: left out" in program_text(imported, tmp_path)


MAMBA = {"state_dim": 8, "num_heads": 2, "head_dim": 4, "num_groups": 1}


def broken(directory: Path, how: str) -> Path:
    source = write_run(directory / "run")
    folder = source / "single_sequence_replacement_solutions--validation"
    match how:
        case "no JSON":
            (folder / "solution_3.json").write_text('{"puzzle_solution": ')
        case "not a list":
            (source / "subblock_stats.json").write_text("{}")
        case "several layers":
            text = (folder / "solution_3.json").read_text()
            (folder / "solution_3.json").write_text(
                text.replace('"parent_layer_indices": [0]', '"parent_layer_indices": [0, 1]')
            )
        case "mamba":
            stats = subblock_stats()
            stats[0]["subblocks"][0]["subblock_config"]["mamba"] = MAMBA
            (source / "subblock_stats.json").write_text(json.dumps(stats))
        case "no batch":
            stats = subblock_stats()
            del stats[1]["args"]["batch_size"]
            (source / "subblock_stats.json").write_text(json.dumps(stats))
        case "nothing":
            for file in folder.iterdir():
                file.unlink()
        case _:
            raise AssertionError(how)
    return source


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no JSON", "E1902 .*solution_3.json`: it is no JSON"),
        ("not a list", "E1902 .*subblock_stats.json`: a list of measurements is expected"),
        ("several layers", "E1902 .*solution_3.json`: it replaces several layers at once"),
        ("mamba", "E1903 a mamba attention in"),
        ("no batch", "E1902 .*`batch_size` of a measurement is no whole number"),
        ("nothing", "E1901 .*no `solution_"),
    ],
)
def test_what_cannot_be_imported_is_a_diagnostic(tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        read_puzzletron(broken(tmp_path, how))
    [told] = caught.value.diagnostics
    assert re.match(says, f"{told.code} {told.message}")
