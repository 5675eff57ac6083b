"""Models under real load: a pretended server whose steps are known is served as the simulation says, and failures are told."""

import json
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import pytest

from puzzledsl.cli.main import run
from puzzledsl.costs.simulation import Engine, Request, arrivals
from puzzledsl.ir.base import Where
from puzzledsl.ir.nodes import Traffic
from puzzledsl.ir.tables import LoadCheck, LoadRun
from puzzledsl.serving import load
from puzzledsl.serving.load import LoadFailed, figures, patience, served, server_command
from tests.serving.test_clock import few as few_models
from tests.serving.test_clock import program_in

few = few_models
PRETENDED = Path(__file__).with_name("pretended_server.py")
HERE = Where(file="t.pzl", line=1, column=1, end_line=1, end_column=2)
PROMPT_S, STEP_S, EACH_S, MOST = 0.0005, 0.03, 0.004, 4


def command(*sizes: float) -> str:
    return " ".join([sys.executable, str(PRETENDED), "{port}", "{most}", *map(str, sizes)])


@pytest.mark.more
def test_a_pretended_engine_is_served_as_the_simulation_says(tmp_path: Path) -> None:
    steps = tuple(int((STEP_S + n * EACH_S) * 10**9) for n in range(1, MOST + 1))
    engine = Engine(Fraction(int(PROMPT_S * 10**9)), steps)
    traffic = Traffic(rate=Fraction(5), at_most=MOST, requests=((100, 8), (40, 16)), where=HERE)
    requests = arrivals(traffic, (0, 0), 40, seed=1)
    predicted = figures(requests, engine.serve(requests))
    with served(command(PROMPT_S, STEP_S, EACH_S), tmp_path, MOST, 128, 1) as server:
        measured = figures(requests, server.serve(requests, patience(requests, predicted)))
    for name, share in (("rate", 0.1), ("tpot", 0.15), ("ttft", 0.3), ("p95_tpot", 0.25)):
        assert measured[name] == pytest.approx(predicted[name], rel=share), name


def test_a_server_that_ends_or_never_answers_is_told(tmp_path: Path) -> None:
    for words, reason in (
        (f"{sys.executable} -c 'raise SystemExit(\"no such model\")'", "exit code 1: no such model"),
        ("/nowhere/llama-server -m {model}", "No such file"),
    ):
        with pytest.raises(LoadFailed, match=reason), served(words, tmp_path, 1, 8, 1):
            pass
    requests = arrivals(Traffic(rate=Fraction(50), at_most=1, where=HERE), (8, 8), 3, seed=0)
    with served(command(0, 30, 0), tmp_path, 1, 8, 1) as server:
        with pytest.raises(LoadFailed, match="3 of 3 requests unanswered"):
            server.serve(requests, 1)
        with pytest.raises(LoadFailed, match="a request failed: HTTP 400"):
            server.serve([Request(0, 0, 1)], 10)


def test_vllm_is_served_by_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PZL_VLLM_VENV", str(tmp_path))
    assert server_command("vllm") is server_command("mlx") is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    found = server_command("vllm")
    assert found is not None and found.startswith(f"{tmp_path}/bin/python -m vllm.entrypoints")


SERVING = """
import sys, time
from pathlib import Path
from puzzledsl.serving import load
popen = load.subprocess.Popen
load.subprocess.Popen = lambda *a, **k: (made := popen(*a, **k), print(made.pid, flush=True))[0]
with load.served(sys.argv[1], Path("."), 1, 8, 1):
    print("serves", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
def test_a_server_ends_with_a_killed_command() -> None:
    words = [sys.executable, "-c", SERVING, command(0, 0, 0)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        assert process.stdout.readline() == "serves\n"
        process.kill()
    for _ in range(100):
        if not Path(f"/proc/{server}").exists() or "Z" in Path(f"/proc/{server}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail(f"process {server} is still there")


SEARCH = """
score kl of wide = table("kl.csv")
search best of wide { minimize kl, require busy.tpot <= 10s }
"""


@pytest.mark.usefixtures("few")
def test_the_command_measures_parent_and_child_and_the_report_shows_them_beside_a_quantised_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program_in(tmp_path)
    busy = "scenario busy on here = traffic(20 req/s, 8 -> 4, at_most: 2)"
    text = path.read_text().replace("scenario chat on here = batch(2, 8 -> 4)", busy)
    path.write_text(text.replace("= parent |", "= parent(dtype: full | q4_0) |") + SEARCH)
    rows = (",gqa1,,1", ",noop,,2", ",parent@q4_0,,1", ",,mlp64,1", ",,noop,2", ",,parent@q4_0,1")
    (tmp_path / "kl.csv").write_text("\n".join(["layer,attention,ffn,kl", *rows, ""]))
    assert run(["verify-load", str(path), "best"]) == 1  # it is not solved yet
    assert run(["measure", str(path)]) == 0
    table = tmp_path / "build" / "costs" / "wide.measured.json"
    made = table.stat().st_mtime_ns
    path.write_text(path.read_text().replace("20 req/s", "30 req/s"))  # no step takes longer for that
    assert run(["measure", str(path)]) == 0 and table.stat().st_mtime_ns == made
    assert run(["solve", str(path)]) == 0
    capsys.readouterr()
    monkeypatch.setattr(load, "LEAST_REQUESTS", 4)
    asked = ["verify-load", str(path), "best", "--seconds", "1", "--shares", "5%", "--seeds", "2"]
    served, lane_run = [], load._Lane.run

    def interrupted_once(self: load._Lane, *of: object) -> LoadRun:
        served.append(self.search)
        if len(served) == 3:
            raise KeyboardInterrupt
        return lane_run(self, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(load._Lane, "run", interrupted_once)
    server = ["--server", command(0.0001, 0.002, 0.001)]
    assert run([*asked, *server]) == 130
    assert run([*asked, *server]) == 0
    assert served == [None, "best", None, None, "best"] and not (tmp_path / "build/work/load/busy").exists()
    out = capsys.readouterr().out
    assert "best in llama.cpp, busy: predicted / measured, at most 2 at once" in out
    check = LoadCheck.from_json((tmp_path / "build" / "load" / "best.json").read_bytes())
    both = [("parent", 0), ("parent", 1), ("child", 0), ("child", 1)]
    assert [(each.model, each.seed) for each in check.runs] == both
    for each in check.runs:
        assert each.measured.keys() == each.predicted.keys() and min(each.measured.values()) >= 0
    assert run(["report", str(path)]) == 0
    page = (tmp_path / "build" / "report.html").read_text("utf-8")
    rows = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', page[page.index('id="traffic"') :])
    assert [name for name, how in rows if how == "simulated"] == ["parent", "q4_0", "child"]
    assert ("child", "measured, seed 1") in rows and ("parent", "its arrivals, simulated") in rows
    other = check.model_copy(update={"layers": check.layers[:-1]})  # points of another child are not shown
    (tmp_path / "build" / "load" / "best.json").write_text(other.canonical_json())
    assert run(["report", str(path)]) == 0
    assert "measured, seed" not in (tmp_path / "build" / "report.html").read_text("utf-8")
    capsys.readouterr()
    assert run([*asked[:-1], "1", *server, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["scenario"] == "busy"
    assert run([*asked, "--server", f"{sys.executable} -c 'raise SystemExit(3)'"]) == 1
    assert "E1816" in capsys.readouterr().err
    assert run([*asked, "--shares", "much"]) == 2


REAL = """\
parent smollm = hf("{parent}")
space small of smollm {{ ffn = parent | noop }}
hardware server = measured(engine: llama_cpp, dtype: q8_0, threads: 1)
scenario busy on server = traffic(0.5 req/s, 96 -> 24, at_most: 4)
search best of small {{ maximize busy.max_rate, require count(l.ffn is noop for l in layers) <= 8 }}
"""


ASKED = ("--shares", "30%", "--seconds", "45", "--seeds", "3")
"""Near saturation a small delay costs a whole prompt, so that a single draw says little (docs/howto/traffic.md)."""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(3000)
def test_llama_server_takes_what_was_predicted(tmp_path: Path) -> None:
    parent = Path(__file__).parents[2] / "examples" / "smollm2" / "parent"
    if load.server_command("llama_cpp") is None or not parent.is_dir():
        pytest.skip("`make llama` builds llama-server, and examples/smollm2/prepare.py makes the parent")
    path = tmp_path / "busy.pzl"
    path.write_text(REAL.format(parent=parent))
    for words in (["measure"], ["solve"], ["verify-load", "best", *ASKED]):
        assert run([words[0], str(path), *words[1:]]) == 0
    check = LoadCheck.from_json((tmp_path / "build" / "load" / "best.json").read_bytes())
    for model in ("parent", "child"):
        runs = [each for each in check.runs if each.model == model]
        assert len(runs) == 3
        for name, share in (("tpot", 0.1), ("ttft", 0.1), ("p95_tpot", 0.2), ("p95_ttft", 0.2)):
            measured, predicted = (
                fmean(getattr(each, side)[name] for each in runs) for side in ("measured", "predicted")
            )
            assert measured == pytest.approx(predicted, rel=share), (model, name)


def test_a_scenario_without_an_engine_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wide.pzl"
    program_in(tmp_path)
    text = path.read_text().replace("engine: llama_cpp, dtype: q8_0, threads: 1", "device: cpu")
    traffic = "scenario busy on here = traffic(20 req/s, 8 -> 4)\n"
    path.write_text(text + traffic + "search best of wide { maximize params }\n")
    assert run(["verify-load", str(path), "best"]) == 1
    assert "E1815" in capsys.readouterr().err
    path.write_text(path.read_text().replace("traffic(20 req/s, 8 -> 4)", "batch(1, 8 -> 4)"))
    assert run(["verify-load", str(path), "best"]) == 1
    assert "scenario under traffic" in capsys.readouterr().err
