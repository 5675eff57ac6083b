"""Meanings of another tool's words: its blocks, its metrics, its sizes and its constraints."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.checker.check import check
from puzzledsl.importing.imported import Imported
from puzzledsl.importing.puzzletron import read_puzzletron
from puzzledsl.importing.write import files_of, identifier, program_text, scores_csv
from tests.importing.puzzle_run import (
    HEADS,
    KV,
    LAYERS,
    WIDTH,
    attention_config,
    ffn_config,
    subblock_stats,
    write_run,
)

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": HEADS,
    "num_key_value_heads": KV, "head_dim": 16, "intermediate_size": WIDTH, "vocab_size": 500,
}  # fmt: skip
OWN = {"attention": attention_config(KV), "ffn": ffn_config(WIDTH)}
SMALL = {"attention": attention_config(2), "ffn": ffn_config(WIDTH)}


def validated(folder: Path, options: dict[str, Any], config: dict[str, Any] | None = None) -> Imported:
    """Return what is read of a run that validated these replacements."""
    validation = folder / "run" / "replacements--validation"
    validation.mkdir(parents=True, exist_ok=True)
    for number, payload in enumerate(options.values()):
        (validation / f"solution_{number}.json").write_text(json.dumps(payload))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return read_puzzletron(folder / "run", folder if config is not None else None)


def option(block: dict[str, Any], layer: int = 0, **metrics: float) -> dict[str, Any]:
    """A validated replacement of one layer."""
    replaced = {"single_block_replacement": {"block_idx": layer, "block_config": block}}
    means = {name: {"avg": value} for name, value in (metrics or {"kl_div": 0.5}).items()}
    return {"puzzle_solution": replaced, **means}


def with_statistics(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Imported:
    """Return what is read of a run whose statistics were changed."""
    run = write_run(folder / "run")
    stats = subblock_stats()
    change(stats)
    (run / "subblock_stats.json").write_text(json.dumps(stats))
    return read_puzzletron(run)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(DiagnosticError) as caught:
        read()
    return "\n".join(f"{told.code} {told.message}" for told in caught.value.diagnostics)


# ---------------------------------------------------------------- blocks


def listed(*configs: dict[str, Any]) -> dict[str, Any]:
    """A block as a list of sub-blocks, each with its kind."""
    return {"subblock_configs": list(configs)}


FULL, WIDE = {"kind": "attention", "num_kv_heads": KV}, {"kind": "ffn", "intermediate_size": WIDTH}


@pytest.mark.parametrize(
    ("block", "attention", "ffn"),
    [
        (listed(FULL, WIDE), "parent", "parent"),
        (listed(WIDE, {**FULL, "num_kv_heads": 2}), "gqa2", "parent"),
        (listed(FULL, {**WIDE, "no_op": True}), "parent", "noop"),
        (listed({**FULL, "no_op": True}, {**WIDE, "intermediate_size": 64}), "noop", "mlp64"),
        (listed(WIDE), "noop", "parent"),
    ],
)
def test_blocks_that_list_their_sub_blocks(
    tmp_path: Path, block: dict[str, Any], attention: str, ffn: str
) -> None:
    imported = validated(tmp_path, {"a": option(block, 1)}, CONFIG)
    assert (attention, ffn) in {(a.name, f.name) for a, f in imported.layers[1]}


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (listed({"kind": "mamba", "num_heads": 8}, WIDE), "a mamba attention"),
        (listed(FULL, {"kind": "moe", "num_experts": 8}), "a mixture of experts"),
        ({**OWN, "parallel_blocks": [1]}, "a block of parallel blocks"),
        ({**OWN, "attention": {"mamba": {"state_dim": 8}}}, "a mamba attention"),
        ({**OWN, "attention": {"llama4": {"x": 8}}}, "a llama4 attention"),
        ({**OWN, "attention": {}}, "an attention without KV heads"),
        ({**OWN, "attention": {"num_key_value_heads": 0}}, "an attention without KV heads"),
        ({**OWN, "attention": {"n_heads_in_group": 3}}, "an attention without KV heads"),
        ({**OWN, "attention": {"num_key_value_heads": 3}}, "3 KV heads"),
        ({**OWN, "ffn": {"moe": {"num_experts": 8}}}, "a mixture of experts"),
        ({**OWN, "ffn": {}}, "an FFN without a width"),
        ({**OWN, "ffn": {"intermediate_size": -1}}, "an FFN without a width"),
    ],
)
def test_blocks_without_words_here_are_told_once(tmp_path: Path, block: dict[str, Any], says: str) -> None:
    options = {f"option {layer}": option(block, layer) for layer in (0, 1)}
    said = refusal(lambda: validated(tmp_path, options, CONFIG))
    assert said == f"E1903 {says} in `{tmp_path / 'run'}` cannot be imported"


# ---------------------------------------------------------------- the parent


def test_a_config_is_what_must_be_known_of_the_parent(tmp_path: Path) -> None:
    no_op = {"attention": {"no_op": True}, "ffn": {"no_op": True}}
    assert validated(tmp_path, {"a": option(no_op)}, CONFIG).shape.intermediate == WIDTH
    said = refusal(lambda: validated(tmp_path, {"a": option(no_op)}))
    assert said == f"E1904 `{tmp_path / 'run'}` has no config.json of the parent"


def test_a_parents_window_comes_along(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "mistral", "sliding_window": 4096}
    imported = validated(tmp_path, {"a": option(SMALL)}, config)
    assert "  window: 4096,\n" in program_text(imported, tmp_path)
    assert list(files_of(imported, tmp_path)) == ["scores.csv", "puzzletron.pzl"]  # nothing was measured


def test_a_config_that_is_none_is_named(tmp_path: Path) -> None:
    said = refusal(lambda: validated(tmp_path, {"a": option(SMALL)}, {**CONFIG, "hidden_size": 0}))
    assert said.startswith(f"E1902 cannot use `{tmp_path / 'config.json'}`: hidden_size is")


def test_a_layer_that_the_parent_does_not_have(tmp_path: Path) -> None:
    said = refusal(lambda: validated(tmp_path, {"a": option(SMALL, 2)}, CONFIG))
    assert said == f"E1902 cannot use `{tmp_path / 'run'}`: layer 2 is replaced; the parent has 2 layers"

    def move(stats: list[dict[str, Any]]) -> None:
        stats[0]["subblocks"][0]["parent_layer_index"] = LAYERS

    said = refusal(lambda: with_statistics(tmp_path / "another", move))
    assert said.endswith(
        f"subblock_stats.json`: a sub-block is of layer {LAYERS}; the parent has {LAYERS} layers"
    )


@pytest.mark.parametrize("nowhere", [None, -1])
def test_a_measurement_of_no_layer_is_of_every_layer(tmp_path: Path, nowhere: int | None) -> None:
    def move(stats: list[dict[str, Any]]) -> None:
        stats[0]["subblocks"][0]["parent_layer_index"] = nowhere

    layers = [cost.layer for cost in with_statistics(tmp_path, move).measurements[0].costs]
    assert layers[:3] == [None, None, 0]  # what no layer changes; then the first two sub-blocks


# ---------------------------------------------------------------- scores


def test_scores_are_distances_from_the_parent_as_the_run_has_it(tmp_path: Path) -> None:
    own = option(OWN, lm_loss=2.0, token_accuracy_top_1=0.5, kl_div=0.0)
    small = option(SMALL, lm_loss=2.25, token_accuracy_top_1=0.375, kl_div=0.125)
    imported = validated(tmp_path, {"own": own, "small": small}, CONFIG)
    assert {name: list(values.values()) for name, values in imported.scores.items()} == {
        "lm_loss": [Decimal("0.25")],
        "token_accuracy_top_1": [Decimal("0.125")],
        "kl_div": [Decimal("0.125")],
    }


def test_a_metric_that_is_not_zero_at_the_parent_needs_the_parents_own(tmp_path: Path) -> None:
    small = option(SMALL, lm_loss=2.25, token_accuracy_top_1=0.375, kl_div=0.125)
    imported = validated(tmp_path, {"small": small}, CONFIG)
    assert list(imported.scores) == ["kl_div"]
    text = program_text(imported, tmp_path)
    for metric in ("lm_loss", "token_accuracy_top_1"):
        assert f"# {metric} is left out: what the parent itself has is not in the run.\n" in text
        assert f"score {metric}" not in text


def test_a_metric_that_some_lack_is_empty_there(tmp_path: Path) -> None:
    options = {"a": option(SMALL, 0, kl_div=1, mse=2), "b": option(SMALL, 1, mse=3)}
    table = scores_csv(validated(tmp_path, options, CONFIG))
    assert table == "layer,attention,ffn,kl_div,mse\n0,gqa2,,1,2\n1,gqa2,,,3\n"


# ---------------------------------------------------------------- costs


def test_measurements_have_names_of_their_own(tmp_path: Path) -> None:
    def repeat(stats: list[dict[str, Any]]) -> None:
        first = stats[0]
        stats += [
            {**first, "args": {**first["args"], **more}}
            for more in ({"generation_seq_len": 64}, {"gpu": "b"}, {"gpu": "c"})
        ]
        stats.append(
            {**first, "args": {**first["args"], "kv_cache_dtype": "torch.int8", "weights_dtype": "4bit"}}
        )

    names = [m.name for m in with_statistics(tmp_path, repeat).measurements]
    assert names == [
        "bf16_8",
        "bf16_16",
        "bf16_8_512_64",
        "bf16_8_512_128",
        "bf16_8_512_128_again",
        "at_4bit_kv_int8_8",
    ]


# ---------------------------------------------------------------- searches


@pytest.mark.parametrize(
    ("stat", "bound", "says"),
    [
        ("stats.memory_mib", 6.5, ["require bf16_16.memory <= 6.5MiB"]),
        ("stats.runtime_ms", [1, 20], ["require bf16_16.latency >= 1ms", "require bf16_16.latency <= 20ms"]),
        ("num_params", [10, float("inf")], ["require params >= 10"]),
        ("stats.has_ffn", [None, 3], ["require count(ffn is not noop) <= 3"]),
        ("stats.memory_mib", "6\nlines", ['# `stats.memory_mib` of the run has no word here: "6\\nlines"']),
        ("stats.memory_mib", [1, 2, 3], ["# `stats.memory_mib` of the run has no word here: [1, 2, 3]"]),
        ("stats.memory_mib", 1e300, ["# `stats.memory_mib` of the run has no word here: 1e+300"]),
        ("of\nlines", {"a": None}, ['# `of lines` of the run has no word here: {"a": null}']),
    ],
)
def test_constraints_of_the_run(tmp_path: Path, stat: str, bound: object, says: list[str]) -> None:
    run = write_run(tmp_path / "run")
    [file] = run.glob("mip/**/solutions.json")
    solutions = json.loads(file.read_text())
    solutions[0]["puzzle_args"]["mip_constraints"] = {stat: bound}
    file.write_text(json.dumps(solutions))
    lines = program_text(read_puzzletron(run), tmp_path).split("{\n")[-1].splitlines()
    assert [line.strip() for line in lines] == ["minimize cosine_embedding_loss_hidden_states", *says, "}"]


def test_a_constraint_on_what_was_not_measured_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    [file] = run.glob("mip/**/solutions.json")
    file.write_text(file.read_text().replace('"batch_size": 16', '"batch_size": 3'))
    assert "# `stats.memory_mib` of the run has no word here: 6.5" in program_text(
        read_puzzletron(run), tmp_path
    )


def test_searches_of_one_name_and_what_is_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    [file] = run.glob("mip/**/solutions.json")
    [solution] = json.loads(file.read_text())
    foreign = {**solution, "puzzle_args": {**solution["puzzle_args"], "objective": "metrics.other"}}
    file.write_text(json.dumps([solution, solution, foreign, {"puzzle_args": 3}, 4]))
    text = program_text(read_puzzletron(run), tmp_path)
    assert [line for line in text.splitlines() if line.startswith("search")] == [
        "search target_memory_6MiB of puzzle {",
        "search target_memory_6MiB_again of puzzle {",
    ]


def test_what_is_not_json_among_the_answers_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    [file] = run.glob("mip/**/solutions.json")
    file.write_text("[{")
    assert refusal(lambda: read_puzzletron(run)) == f"E1902 cannot use `{file}`: it is no JSON"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kl_div", "kl_div"),
        ("a.b-c", "a_b_c"),
        ("8b", "n8b"),
        ("…", "unnamed"),
        ("not", "not_"),
        ("für²", "f_r"),
    ],
)
def test_a_name_can_be_written_in_a_program(tmp_path: Path, text: str, name: str) -> None:
    assert identifier(text) == name
    program = tmp_path / "a.pzl"
    program.write_text(f"let {name} = 1\n")
    assert not [d for d in check(program).diagnostics if d.code.startswith("E")]
