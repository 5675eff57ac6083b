"""Code of a directory is run only if it is, byte for byte, what puzzledsl writes there, or with `--trust-remote-code`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.child.checkpoint.write import foreign_code, realise
from puzzledsl.cli.main import run
from puzzledsl.export import verify
from puzzledsl.export.engines import worker
from puzzledsl.export.write import write_export
from puzzledsl.models.errors import TokenizerNeedsCode
from puzzledsl.models.families.load import load_parent, load_tokenizer
from tests.children import define, random_pieces
from tests.export.test_engines import request_for
from tests.export.variants import MIXTURE, Made, Variant, make

RAN = "ran"
"""Name of a file that code in a directory writes when it is run."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Variant(MIXTURE), tmp_path_factory.mktemp("trust"))


@pytest.fixture
def child(made: Made, tmp_path: Path) -> Path:
    shutil.copytree(made.child, tmp_path / "child")
    return tmp_path / "child"


def one_byte(path: Path) -> None:
    """Change one byte of a comment or a docstring in the first line: the code still computes the same."""
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def spying(path: Path, mark: Path) -> None:
    """Have a file of code write `mark` when it is run."""
    path.write_text(f"open({str(mark)!r}, 'w').close()\n" + path.read_text())


def reasons(directory: Path) -> dict[str, str]:
    found = foreign_code(directory, from_directory(directory))
    return {str(Path(str(own.args["path"])).relative_to(directory)): str(own.args["reason"]) for own in found}


def edit_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("file_name", "engine"),
    [
        ("configuration_decilm.py", "transformers"),
        ("window.py", "llama_cpp"),
        ("modeling_decilm.py", "mlx"),
        ("modeling_decilm.py", "vllm"),
    ],
)
def test_one_byte_is_refused_for_every_engine(
    child: Path,
    file_name: str,
    engine: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify, "ask", lambda *_, **__: pytest.fail("an engine was started"))
    monkeypatch.setattr("puzzledsl.export.engines.ask.python_of", lambda _: Path("/usr/bin/python3"))
    one_byte(child / file_name)
    assert run(["verify-export", str(child), "--runtime", engine]) == 1
    said = capsys.readouterr().err
    assert "E0741" in said and file_name in said and "line 1 differs" in said
    assert "--trust-remote-code" in said


DOUBLED = """
_forward = DeciLMForCausalLM.forward
def _doubled(self, *args, **kwargs):
    found = _forward(self, *args, **kwargs)
    found.logits = found.logits * 2
    return found
DeciLMForCausalLM.forward = _doubled
"""


def test_trusted_code_is_run_and_compared(
    child: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flag it is the directory's own code that runs, not a copy with ours: it computes something else."""
    mark, path = tmp_path / RAN, child / "modeling_decilm.py"
    spying(path, mark)
    path.write_text(path.read_text() + DOUBLED)
    command = ["verify-export", str(child), "--runtime", "transformers"]
    assert run(command) == 1 and not mark.exists()
    assert "E0741" in capsys.readouterr().err
    assert run([*command, "--trust-remote-code"]) == 1
    assert mark.exists() and " differs " in capsys.readouterr().out


def test_mlx_code_of_a_directory(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "mlx"
    write_export(made.child, target, "mlx", "mlx", name="ship")
    assert (target / "mlx_model.py").is_file()
    assert reasons(target) == {}
    one_byte(target / "mlx_model.py")
    assert reasons(target) == {"mlx_model.py": "line 1 differs"}
    edit_json(target / "config.json", model_file="../evil.py")
    assert reasons(target)["config.json"] == "its model_file names `../evil.py`"


def test_other_files_of_code_and_links(child: Path, tmp_path: Path) -> None:
    """A link is as good as its content: the cache of a model hub is made of links."""
    (child / "evil.py").write_text("")
    (child / "own").mkdir()
    (child / "own" / "window.py").write_bytes((child / "window.py").read_bytes())
    (child / "fast.SO").write_bytes(b"")
    odd = ["evil.py", "fast.SO", "own/window.py"]
    assert reasons(child) == dict.fromkeys(odd, "puzzledsl writes no such file")
    for name in odd:
        (child / name).unlink()
    aside = tmp_path / "blobs"
    aside.mkdir()
    for path in list(child.glob("*.py")):
        (aside / path.name).write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(aside / path.name)
    assert reasons(child) == {}
    one_byte(aside / "modeling_decilm.py")
    (child / "window.py").unlink()
    (child / "window.py").symlink_to(tmp_path / "nowhere.py")
    (child / "inner").symlink_to(aside)
    assert reasons(child) == {
        "inner": "it is a link to a folder, whose code is not compared",
        "modeling_decilm.py": "line 1 differs",
        "window.py": "it cannot be read (No such file or directory)",
    }


@pytest.mark.parametrize(
    ("stem", "changes", "reason"),
    [
        ("config", {"auto_map": {"AutoConfig": "a/b--c.D"}}, "its auto_map names `a/b--c.D`"),
        ("config", {"custom_pipelines": {"x": {"impl": "c.D"}}}, "its custom_pipelines names `c.D`"),
        ("tokenizer_config", {"auto_map": {"AutoTokenizer": ["own.T", None]}}, "its auto_map names `own.T`"),
        ("processor_config", {"auto_map": {"AutoProcessor": "own.P"}}, "its auto_map names `own.P`"),
    ],
)
def test_names_of_code(child: Path, stem: str, changes: dict[str, object], reason: str) -> None:
    edit_json(child / f"{stem}.json", **changes)
    assert reasons(child) == {f"{stem}.json": reason}


def with_tokenizer(directory: Path, mark: Path, name: str) -> None:
    """Name code for the tokenizer of a directory, beside a class that transformers may have."""
    (directory / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as OwnTokenizer\n"
    )
    settings = directory / "tokenizer_config.json"
    edit_json(settings, tokenizer_class=name, auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]})


def test_code_of_a_tokenizer(made: Made, tmp_path: Path) -> None:
    """A class that transformers has is used; of another, the diagnostic names the code. Neither runs it."""
    parent, mark = tmp_path / "parent", tmp_path / RAN
    shutil.copytree(made.parent, parent)
    with_tokenizer(parent, mark, "PreTrainedTokenizerFast")
    assert load_tokenizer(parent).encode("a b") == load_tokenizer(made.parent).encode("a b")
    realise(define(MIXTURE), parent, random_pieces(load_parent(parent), MIXTURE), tmp_path / "child")
    assert (
        "auto_map" not in (tmp_path / "child" / "tokenizer_config.json").read_text()
    )  # its code is not copied
    assert reasons(tmp_path / "child") == {}
    with_tokenizer(parent, mark, "OwnTokenizer")
    with pytest.raises(DiagnosticError) as caught:
        load_tokenizer(parent)
    assert [d.kind for d in caught.value.diagnostics] == [TokenizerNeedsCode]
    assert "own.OwnTokenizer" in caught.value.diagnostics[0].message
    assert not mark.exists()


def test_an_engine_reads_no_pickles(child: Path) -> None:
    """With trusted code, weights still come from safetensors alone: this pickle of them would load."""
    weights = child / "model.safetensors"
    torch.save(load_file(weights), child / "pytorch_model.bin")
    weights.unlink()
    for path in child.glob("*.index.json"):
        path.unlink()
    with pytest.raises(OSError, match="safetensors"):
        worker.run("transformers", request_for(child, [1, 2]))
