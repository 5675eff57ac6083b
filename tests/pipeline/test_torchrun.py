"""`pzl uptrain` under torchrun: rank 0 runs the stage, the others do their part and end as it ends."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.tiny_program import COMMAND, ENVIRONMENT, events, ran, write_tiny_program

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def run(program: Path, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """`pzl uptrain` in two processes, with at most `limit_bytes` in any file that they write."""

    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command, env = [*TORCHRUN, *COMMAND[1:], "uptrain", str(program)], ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, preexec_fn=limited)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained in float32: processors with bfloat16 products would round shards and whole weights differently."""
    path = write_tiny_program(tmp_path_factory.mktemp("torchrun"))
    text = path.read_text()
    path.write_text(text.replace("lr = cosine(1e-3), data", "dtype = fp32, lr = cosine(1e-3), data"))
    ran("run", path, "--until", "realise")
    return path


def test_two_processes_train_as_one_and_then_have_nothing_to_do(program: Path) -> None:
    def losses() -> list[float]:
        steps = (event for event in events(program.parent / "build") if event["event"] == "uptrain_step")
        return [float(step["loss"]) for step in steps]

    ran("uptrain", program)
    alone = losses()
    (program.parent / "build" / "stamps" / "uptrain-final.json").unlink()
    both = run(program)
    assert both.returncode == 0, both.stderr
    assert len(alone) == 8 and losses()[8:] == pytest.approx(alone, abs=1e-4)
    again = run(program)
    assert again.returncode == 0, again.stderr
    assert len(losses()) == 16


def changed(program: Path) -> Path:
    """Return the program with another learning rate: its uptraining runs again."""
    path = program.with_name("changed.pzl")
    path.write_text(program.read_text().replace("cosine(1e-3), data", "cosine(2e-3), data"))
    return path


def test_a_diagnostic_is_shown_once_and_ends_all(program: Path) -> None:
    """The text is shorter than one sequence."""
    program.with_name("short.txt").write_text("the cat sat on a mat")
    before, after = program.read_text().split("uptrain final")
    wrong = program.with_name("wrong.pzl")
    short = after.replace("data = corpus", "data = short", 1)
    wrong.write_text(f'{before}data short = text("short.txt")\nuptrain final{short}')
    done = run(wrong)
    assert done.returncode != 0
    assert done.stderr.count("error[E") == done.stderr.count("error[E1204]") == 1, done.stderr


def test_each_process_that_may_not_write_names_the_build(program: Path) -> None:
    """Both write their share of the training's state."""
    build = program.parent / "build"
    written = build / "models" / "best" / "model.safetensors"
    done = run(changed(program), written.stat().st_size // 2)
    assert done.returncode != 0
    told = f"error[E0608]: cannot write `{build}`: File too large"
    assert 1 <= done.stderr.count("error[E") == done.stderr.count(told) <= 2, done.stderr
