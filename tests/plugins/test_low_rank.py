"""An alternative of an installed package goes everywhere that the built-in ones go; two files and an entry point add it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.tiny_program import write_tiny_program
from tests.plugins.conftest import LOW_RANK, Run, install, runner

PZL = ("-m", "puzzledsl.cli.main")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_tiny_program(tmp_path_factory.mktemp("program"))
    text = path.read_text().replace("mlp(width: 50%)", "low_rank(rank: 12 | 6)")
    text = text.replace(
        "  require chat.throughput >= 1.2x\n",
        "  require chat.throughput >= 1.2x\n  require count(ffn is low_rank(rank: >= 12)) >= 1\n",
    )
    text = text[: text.index("search greedy")] + text[text.index("uptrain final") :]
    path.write_text(text.replace('hf("out")', 'hf("out", runtime: transformers)'))
    return path


@pytest.fixture(scope="module")
def ran(program: Path, python: Run) -> Path:
    """The program after `pzl run`: its directory."""
    python(*PZL, "run", str(program))
    return program.parent


def test_check_and_show(program: Path, python: Run) -> None:
    assert python(*PZL, "check", "--allow", "W1216", str(program)).stderr == ""
    shown = python(*PZL, "show", str(program), "wide").stdout
    assert f"low_rank12     40        {3 * 12 * (24 + 40) + 24}" in shown
    assert f"low_rank6      40        {3 * 6 * (24 + 40) + 24}" in shown


def test_cost(ran: Path, python: Run) -> None:
    """Parameters, FLOP and bytes are those of six thin matrices."""
    (costs,) = json.loads((ran / "build" / "costs" / "wide.json").read_text())["scenarios"]["chat"]
    matrices = 3 * 12 * (24 + 40)
    for layer in costs["ffn"]:
        cost = layer["low_rank12"]
        assert cost["params"] == matrices + 24
        assert cost["weights_bytes"] == 4 * (matrices + 24)
        assert cost["decode_flop"] == 2 * matrices and cost["kv_cache_bytes"] == 0
    assert "low_rank12" in python(*PZL, "cost", str(ran / "tiny.pzl"), "--solution", "best").stdout


def test_runtimes_without_it_are_refused(tmp_path: Path, program: Path, python: Run) -> None:
    text = program.read_text().replace("runtime: transformers", "runtime: vllm")
    (tmp_path / "wrong.pzl").write_text(text)
    shutil.copytree(program.parent / "parent", tmp_path / "parent")
    said = python(*PZL, "check", str(tmp_path / "wrong.pzl"), code=1).stderr
    assert "it has no `low_rank` sub-blocks" in said and "runtime: transformers" in said


def test_every_stage_has_it(ran: Path) -> None:
    build = ran / "build"
    answer = json.loads((build / "solutions" / "best.json").read_text())
    assert any(layer["ffn"] == "low_rank12" for layer in answer["solutions"][0]["layers"])
    scores = json.loads((build / "scores" / "kl.json").read_text())
    assert all(0 < layer["low_rank12"] < layer["noop"] for layer in scores["ffn"])
    pieces = [json.loads(line) for line in (build / "library" / "index.jsonl").read_text().splitlines()]
    made = [piece for piece in pieces if (piece["job"]["ffn"] or {}).get("kind") == "low_rank"]
    assert len(made) == 2 * 3
    assert all(piece["loss_final"] < 1 for piece in made)


def test_the_export_runs_in_transformers_without_the_package(ran: Path, python: Run) -> None:
    """The checkpoint brings its code; the package's own loader gives the same logits."""
    loads = "import torch; tokens = torch.arange(4, 24)[None]; torch.set_grad_enabled(False); "
    remote = loads + (
        "from transformers import AutoModelForCausalLM; import sys; assert 'low_rank' not in sys.modules; "
        "m = AutoModelForCausalLM.from_pretrained('out', trust_remote_code=True, dtype=torch.float32); "
        "assert 'puzzledsl' not in sys.modules; print(m(tokens).logits.double().sum(-1).tolist())"
    )
    ours = loads + (
        "from pathlib import Path; from puzzledsl.child.checkpoint.contents import load_child; "
        "m = load_child(Path('out')); print(m(tokens).logits.double().sum(-1).tolist())"
    )
    assert runner({"PATH": "/usr/bin:/bin", "HF_HOME": str(ran / "hf")})("-c", remote, cwd=ran).stdout == (
        python("-c", ours, cwd=ran).stdout
    )


def test_the_report_draws_it(ran: Path, python: Run) -> None:
    python(*PZL, "report", str(ran / "tiny.pzl"))
    (page,) = (ran / "build").rglob("*.html")
    assert "low_rank12" in page.read_text()


def test_it_keeps_the_laws_of_the_built_in_alternatives(python: Run) -> None:
    """Names and shapes, causality, generation, memory and disk, the float64 oracle; and its own."""
    places = ("tests/models/test_build.py", "tests/child/checkpoint")
    laws = "tests/plugins/low_rank_laws.py"
    forked = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # modules are imported before pytest is
    options = ("-v", "-p", "no:cacheprovider", "-m", "not slow", *forked)
    done = python("-m", "pytest", *options, "-k", "low_rank", *places, laws)
    passed = [line for line in done.stdout.splitlines() if " PASSED" in line]
    assert any(line.startswith(places) for line in passed)
    assert any(line.startswith(laws) for line in passed)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('no such disk')\n", "RuntimeError: no such disk"),
        ("LowRankFfn = 3\n", "`3` is no subclass of `Attention` or `Ffn`"),
        (
            "from puzzledsl.alternatives.mlp import MlpFfn as LowRankFfn\n",
            'its class does not say `kind="low_rank"` beside its base',
        ),
        (
            "from puzzledsl.alternatives.alternative import Ffn\nclass LowRankFfn(Ffn, kind='low_rank'):\n    pass\n",
            "its class has no weights",
        ),
    ],
)
def test_a_broken_package_is_a_warning(tmp_path: Path, code: str, said: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(LOW_RANK / "pyproject.toml", package)
    (package / "low_rank.py").write_text(code)
    (tmp_path / "plain.pzl").write_text(
        "parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 8, head_dim: 8, "
        "intermediate: 192, vocab: 256)\nspace w of p { ffn = parent | noop }\n"
    )
    run = runner(install(tmp_path / "site", package))
    shown = run(*PZL, "check", str(tmp_path / "plain.pzl")).stderr
    assert "warning[W0204]" in shown and said in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("low_rank_module.py", "import torch\n", "import nothing_of_this_name\n", "nothing_of_this_name"),
        (
            "low_rank.py",
            '"up_in.weight"',
            '"up_at.weight"',
            "`up_at.weight`: `weights` says [6, 24], the module has none",
        ),
        (
            "low_rank_module.py",
            "    root = scale[:rank].sqrt()\n",
            "    rank = 3\n    root = scale[:rank].sqrt()\n",
            "`down_in.weight`: `weights` says [6, 40], `initialise` gives [3, 40]",
        ),
    ],
)
def test_a_broken_module_is_an_error_when_it_is_needed(
    tmp_path: Path, file: str, right: str, wrong: str, said: str
) -> None:
    package, program = tmp_path / "package", write_tiny_program(tmp_path)
    shutil.copytree(LOW_RANK, package)
    text = (package / file).read_text()
    assert text.count(right) == 1
    (package / file).write_text(text.replace(right, wrong))
    program.write_text(program.read_text().replace("mlp(width: 50%)", "low_rank(rank: 6)"))
    shown = runner(install(tmp_path / "site", package))(*PZL, "bld", str(program), code=1).stderr
    assert "error[E0717]" in shown and said in shown and "Traceback" not in shown, shown


def test_an_alternative_without_a_module_is_refused_when_it_is_needed(tmp_path: Path, python: Run) -> None:
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(LOW_RANK / "low_rank.py", package)
    project = (LOW_RANK / "pyproject.toml").read_text()
    module = '[project.entry-points."puzzledsl.models.alternatives"]\nlow_rank = "low_rank_module"\n'
    assert module in project
    (package / "pyproject.toml").write_text(project.replace(module, "").replace(', "low_rank_module"', ""))
    program = write_tiny_program(tmp_path)
    program.write_text(program.read_text().replace("mlp(width: 50%)", "low_rank(rank: 6)"))
    run = runner(install(tmp_path / "site", package))
    for command in ("check", "bld"):
        said = run(*PZL, command, str(program), code=1).stderr
        assert "error[E0711]: `low_rank6` cannot yet be realised" in said and "bld " in said
