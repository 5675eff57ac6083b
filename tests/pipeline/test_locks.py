"""One process at a time in a build directory: the others are told which; a dead one holds nothing."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from puzzledsl.pipeline.process import at_work
from tests import forked
from tests.commands import said
from tests.pipeline.tiny_program import ENVIRONMENT, contents, events

HOLD = """
import sys, time
from pathlib import Path

from puzzledsl.cli import loading
from puzzledsl.pipeline.process import locked
sys.argv = ["pzl", "run"]
with locked(loading.context(Path({program!r}), None, None)):
    Path({program!r}).with_name("held").touch()
    time.sleep(600)
"""


def test_the_second_is_told_who_has_it(copied: Callable[[], Path]) -> None:
    """It answers without keeping the answer, or is refused; a killed run's place is taken over."""
    program = copied()
    build = program.parent / "build"
    before = contents(build)
    process = forked.start(["-c", HOLD.format(program=str(program))], env=ENVIRONMENT)
    try:
        while not program.with_name("held").exists():
            assert process.poll() is None
        holder = f"`pzl run`, process {process.pid}"
        code, out, err = said("solve", program)
        assert code == 0 and "objective" in out, err
        assert f"{holder}, since 2" in err and err.endswith("answers are not kept\n")
        code, out, err = said("why", program, "best")
        assert code == 0 and "regret" in out, err
        assert contents(build) == before
        for command in ("run", "score"):
            code, _, err = said(command, program)
            assert code == 1 and "E0606" in err and f"{holder}, since 2" in err
        assert said("status", program)[1].startswith(f"at work here: {holder}")
    finally:
        process.kill()
        process.communicate()
    assert at_work(build) is None
    code, _, err = said("run", program)
    assert code == 0 and f"an earlier run ended in the middle ({holder}" in err
    assert any(e["event"] == "took_over" for e in events(build))
    assert contents(build) == before
    with FileLock(build / ".lock"):
        code, _, err = said("run", program)
    assert code == 1 and "E0606" in err and "another `pzl`" in err
