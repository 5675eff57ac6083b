"""Data frames: one row a thing, whole numbers stay whole, and an error that says what to install."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

import puzzledsl as pzl
from puzzledsl.api.tables import frame

ROWS = [{"layer": None, "name": "fixed", "cost": 1.5}, {"layer": 3, "name": "gqa2", "cost": 2.0}]


def test_whole_numbers_stay_whole_beside_gaps() -> None:
    made = frame(ROWS, "pandas")
    assert isinstance(made, pandas.DataFrame) and list(made.columns) == ["layer", "name", "cost"]
    assert str(made["layer"].dtype) == "Int64" and made["layer"].isna().tolist() == [True, False]
    assert made["cost"].tolist() == [1.5, 2.0]


def test_polars_is_used_where_it_alone_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.delitem(sys.modules, "pandas")
    monkeypatch.setitem(
        sys.modules,
        "polars",
        SimpleNamespace(DataFrame=lambda rows, **options: taken.append((rows, options))),
    )
    frame(ROWS)
    assert taken == [(ROWS, {"infer_schema_length": None})]


def test_what_is_not_installed_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pzl.DiagnosticError) as caught:
        frame(ROWS)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.help) == ("E0671", "`pip install pandas` or `pip install polars`")
    with pytest.raises(ValueError, match="'pandas' or 'polars', not 'numpy'"):
        frame(ROWS, "numpy")  # type: ignore[arg-type]


def test_a_layer_is_a_row(program: pzl.Program) -> None:
    answer = program.solve("best")
    made = answer.to_frame("pandas")
    assert list(made.columns) == ["layer", "attention", "ffn", "chat.time_s", "kl"]
    assert list(zip(made["attention"], made["ffn"], strict=True)) == [
        (x.attention, x.ffn) for x in answer.layers
    ]
    assert made["kl"].sum() == pytest.approx(answer.objective)
    fixed = program.costs("wide").to_frame("pandas").query("sub_block == 'fixed' and batch == 64").iloc[0]
    fixed_s = (fixed["prefill_ns"] + 256 * fixed["decode_ns"]) / 1e9
    assert made["chat.time_s"].sum() + fixed_s == pytest.approx(answer.metrics["chat.latency"])


def test_every_cost_is_a_row(program: pzl.Program) -> None:
    costs = program.costs("wide")
    made = costs.to_frame("pandas")
    assert len(made) == 2 * (1 + 6 * (3 + 3)) and set(made["batch"]) == {32, 64}
    of_one = made.query(
        "batch == 32 and layer == 2 and sub_block == 'attention' and alternative == 'gqa2'"
    ).iloc[0]
    table = costs.table.scenarios["chat"][0].attention[2]["gqa2"]
    assert {name: int(of_one[name]) for name in type(table).model_fields} == table.model_dump()
    assert costs.provenance["chat"].startswith("roofline")


def test_a_regret_is_a_row(program: pzl.Program) -> None:
    made = program.why("best", layer=1).to_frame("pandas")
    assert made["chosen"].sum() == 2 and made.query("chosen")["at_most"].tolist() == [0.0, 0.0]
    assert len(made) == 6
