"""`pzl new`: every shipped parent on every shipped hardware gives a program that checks, without a warning, formatted."""

import json
import re
import shlex
from pathlib import Path

import pytest

from puzzledsl.checker.check import check, shipped_profiles
from puzzledsl.cli.commands.new import std_parents
from puzzledsl.cli.main import run
from puzzledsl.syntax.format import format_source
from tests.cases import more
from tests.cli.conftest import Pzl
from tests.families.test_children import decilm
from tests.std.test_std import DATASHEETS, PUBLISHED_PARAMS


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_sound(path: Path) -> None:
    found = check(path, {})
    assert [repr(d) for d in found.diagnostics] == []
    text = path.read_text("utf-8")
    assert format_source(text) == text


def test_the_shipped_names_are_all_found() -> None:
    assert [*PUBLISHED_PARAMS] == PARENTS
    assert set(DATASHEETS) <= set(shipped_profiles())


PARENTS = [*std_parents()]


@pytest.mark.parametrize("parent", [*PARENTS[::7], *more(*(name for i, name in enumerate(PARENTS) if i % 7))])
def test_every_parent_starts(parent: str) -> None:
    hardware = ["measured", *shipped_profiles()]
    profile = hardware[PARENTS.index(parent) % len(hardware)]
    assert run(["new", "--parent", parent, "--hardware", profile]) == 0
    assert_sound(Path(f"{parent}.pzl"))


@pytest.mark.parametrize("profile", shipped_profiles())
def test_every_profile_starts(profile: str) -> None:
    assert run(["new", "start", "--hardware", profile]) == 0
    assert_sound(Path("start.pzl"))


def test_a_directory_is_named_from_where_the_program_lies(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "mine"
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 6,
        "num_key_value_heads": 6, "head_dim": 16, "intermediate_size": 192, "vocab_size": 256,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    assert run(["new", "programs/small", "--parent", "checkpoints/mine"]) == 0
    program = Path("programs/small.pzl")
    assert 'hf("../checkpoints/mine")' in program.read_text()
    assert "gqa(kv_heads: 3 | 2 | 1)" in program.read_text()
    assert "\n  heal = 4Ki " in program.read_text(), "on a processor, a child has the budget of a piece"
    assert_sound(program)


def test_a_child_is_offered_what_its_widest_attention_allows(tmp_path: Path) -> None:
    """Its layers have 8, 2 and 1 key/value heads, or no attention; each takes what it can have."""
    runs = [(2, 8, 2.625), (1, 32, 2.625), (1, 64, 2.625), (1, None, 1.3125)]
    (tmp_path / "child").mkdir()
    (tmp_path / "child" / "config.json").write_text(json.dumps(decilm(runs)))
    assert run(["new", "start", "--parent", "child"]) == 0
    assert "gqa(kv_heads: 4 | 2 | 1)" in Path("start.pzl").read_text()
    assert_sound(Path("start.pzl"))


def test_a_file_is_never_overwritten_unasked(pzl: Pzl) -> None:
    Path("mine.pzl").write_text("# mine\n")
    assert "error[E0621]: `mine.pzl` exists" in pzl("new", "mine.pzl", code=1).err
    assert Path("mine.pzl").read_text() == "# mine\n"
    pzl("new", "mine.pzl", "--force")
    assert_sound(Path("mine.pzl"))


def test_what_is_suggested_can_be_typed(pzl: Pzl) -> None:
    """In commands that `pzl new` and helps name, a shell finds the file."""
    commands = re.findall(r"pzl [a-z]+ '.+?'", pzl("new", "x y.pzl").out)
    assert commands == ["pzl check 'x y.pzl'", "pzl show 'x y.pzl'", "pzl run 'x y.pzl'"]
    for command in commands:
        assert Path(shlex.split(command)[-1]).is_file()
    helps = re.findall(r"`pzl [a-z]+ ([^`]+)`", pzl("why", "x y.pzl", code=1).err)
    assert helps == ["'x y.pzl'", "'x y.pzl' kl", "'x y.pzl'"], "what is not there yet is made by these"


def test_a_printed_program_writes_no_parent(pzl: Pzl) -> None:
    Path("my model.gguf").write_bytes(b"GGUF")
    said = pzl("new", "-", "--parent", "my model.gguf", code=1)
    assert said.out == "" and "error[E0622]: no parent `my model.gguf`: its weights go into" in said.err
    assert "= help: name the program: `pzl new my_model --parent 'my model.gguf'`" in said.err
    assert [path.name for path in Path().iterdir()] == ["my model.gguf"]


@pytest.mark.parametrize(
    ("arguments", "code", "help"),
    [
        (["--parent", "lama3_1_8b"], "E0622", "did you mean `llama3_1_8b`?"),
        (["--parent", "Qwen/Qwen2.5-8B"], "E0622", "did you mean `Qwen/Qwen2.5-"),
        (["--parent", "nothing/like/it"], "E0622", f"shapes: {next(iter(std_parents()))}, "),
        (["--hardware", "h100"], "E0623", "did you mean `h100_sxm`?"),
        (["--hardware", "abacus"], "E0623", "profiles: measured, h100_sxm, "),
        (["--parent", "config.json"], "E0622", "it is a file; a parent is a directory"),
    ],
)
def test_typos_are_told(arguments: list[str], code: str, help: str, pzl: Pzl) -> None:
    Path("config.json").write_text("{}", "utf-8")
    said = pzl("new", *arguments, code=1).err
    assert f"error[{code}]" in said and help in said
    assert list(Path().glob("*.pzl")) == []


@pytest.mark.parametrize("parent", ["smollm2_135m", "qwen3_30b_a3b", *more("llama3_1_8b")])
@pytest.mark.parametrize("engine", ["torch", "mlx", "llama_cpp", "vllm"])
def test_every_engine_starts_with_a_speed_or_with_quality(engine: str, parent: str) -> None:
    for keep in ([], ["--keep", "95%"]):
        code = run(["new", "start", "--force", "--parent", parent, "--engine", engine, *keep])
        if code:  # the engine cannot have children of this family, and nothing is written
            assert code == 1 and parent == "qwen3_30b_a3b" and not Path("start.pzl").exists()
            continue
        assert_sound(Path("start.pzl"))
        program = check(Path("start.pzl"), {}).program
        assert program is not None
        search, (export,) = program.searches["best"], program.exports.values()
        assert bool(program.judges) == bool(keep) == (search.sense == "maximize")
        assert {"llama_cpp": "llama_cpp", "vllm": "vllm"}.get(engine, export.runtime) == export.runtime
        spec = program.hardware["here"].spec
        assert getattr(spec, "engine", None) == {"mlx": "torch"}.get(engine, engine)


@pytest.mark.parametrize("given", [["--engine", "llamacpp"], ["--keep", "high"], ["--keep", "120%"]])
def test_options_that_mean_nothing(given: list[str], pzl: Pzl) -> None:
    assert given[1] in pzl("new", "start", *given, code=2).err and not Path("start.pzl").exists()
