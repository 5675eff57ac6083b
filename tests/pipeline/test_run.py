"""`pzl run`: does everything once, goes on after a kill, ends in the same files."""

from collections.abc import Callable
from pathlib import Path

from tests.pipeline.tiny_program import (
    contents,
    events,
    ran,
    read,
    started,
)


def test_a_second_run_does_nothing_and_a_flipped_byte_is_made_again(copied: Callable[[], Path]) -> None:
    program = copied()
    build = program.parent / "build"
    before, seen = contents(build), len(events(build))
    ran("run", program)
    assert started(build, seen) == [] and contents(build) == before
    scores = build / "scores" / "kl.json"
    scores.write_bytes(scores.read_bytes().replace(b"1", b"2", 1))
    ran("run", program)
    assert "score kl" in started(build, seen) and contents(build) == before


def test_the_export_is_the_child_and_its_card_says_how_good_it_is(finished: Path) -> None:
    child, exported = finished.parent / "build/models/final", finished.parent / "out"
    own, card = ((folder / "README.md").read_text("utf-8") for folder in (child, exported))
    assert card.startswith(own.rstrip())
    here, there = contents(child), contents(exported)
    assert here.pop("README.md") != there.pop("README.md")
    assert here == there and "model.safetensors" in here
    kl = read(finished.parent / "build/evals/quality.json")["models"][2]["figures"]["kl"]["value"]
    rows = [line.split() for line in card.splitlines()]
    assert card.count("## Quality") == 1 and ["kl", "0", f"{kl:.4g}"] in rows
    assert any(row[:1] == ["pooled"] for row in rows)


def test_healing_is_on_unless_it_is_switched_off(copied: Callable[[], Path], finished: Path) -> None:
    program, before = copied(), contents(finished.parent / "build")
    healed = {e["search"]: e["kept"] for e in events(finished.parent / "build") if e["event"] == "healed"}
    assert healed.keys() == {"best", "greedy", "most"}
    ran("realise", program, "best", "--no-heal")
    other = (
        contents(program.parent / "build/models/best").items()
        ^ contents(finished.parent / "build/models/best").items()
    )
    assert {name for name, _ in other} == ({"model.safetensors"} if healed["best"] == "healed" else set())
    ran("realise", program, "best")
    assert contents(program.parent / "build") == before
