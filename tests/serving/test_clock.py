"""Whole children are exported, timed in llama.cpp beside the parent, and their pieces' costs fill the table."""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.cli.main import run
from puzzledsl.evaluate.units import speed_of
from puzzledsl.export import engines
from puzzledsl.export.engines import ask, llama_cpp_engine
from puzzledsl.export.engines.ask import Session, SessionFailed, build_of, python_of
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import CostTable
from puzzledsl.measure import cells as costs
from puzzledsl.measure import estimate
from puzzledsl.measure.errors import EngineAbsent, EngineFailed
from puzzledsl.measure.whole import Workload
from puzzledsl.serving import clock
from puzzledsl.serving.clock import ServingClock
from puzzledsl.serving.load import time_in_engine
from tests.cases import more
from tests.interrupting import Interrupted, Recorder
from tests.refused import refused
from tests.tiny import save_tiny

PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent | gqa(kv_heads: 1) | noop
  ffn = parent | mlp(width: 50%, round: 8) | noop
}
hardware here = measured(engine: ENGINE, dtype: DTYPE, threads: 1)
scenario chat on here = batch(2, 8 -> 4)
"""
CACHE_CHANNELS = 2 * 12 * 2 * 2 * 32
"""Batch, tokens, keys and values, KV heads, channels of each."""
SIZES = {"layers": 3, "hidden": 128, "intermediate": 128, "head_dim": 32}  # vLLM has no head of 8


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(clock, "CHECK_ROUNDS", 1)
    monkeypatch.setattr(clock, "models_needed", lambda labels, ends: max(2, len(ends)))
    monkeypatch.setattr(estimate, "CHECKED_CHILDREN", 1)
    monkeypatch.setattr("puzzledsl.measure.cells.CHECKED_CHILDREN", 1)
    monkeypatch.setenv("PZL_LLAMA_LIBRARY", "")


def program_in(base: Path, engine="llama_cpp", dtype="q8_0") -> Path:
    save_tiny(base / "parent", **SIZES)
    path = base / "wide.pzl"
    path.write_text(PROGRAM.replace("ENGINE", engine).replace("DTYPE", dtype))
    return path


def checked(path: Path) -> nodes.Program:
    found = check(path, {}).program
    assert found is not None
    return found


def measured(path: Path, progress=None) -> CostTable:
    base = path.parent
    given = (base / "parent", base / "work", progress or Silent(), None, ServingClock)
    return costs.measure_costs(checked(path), "wide", *given)


@pytest.mark.parametrize(
    ("engine", "good", "loads"), [("llama_cpp", 3, 3), ("llama_cpp", 99, 6), ("vllm", 99, 1)]
)
def test_a_model_in_small_pages_is_loaded_again(tmp_path, monkeypatch, engine, good, loads):
    """From the first load on that lies in huge pages; six at most, and one of an engine without them."""
    made: list[str] = []

    class Loaded:
        is_in_huge_pages = property(lambda self: made.count("open") >= good)

        def __init__(self, *given) -> None:
            made.append("open")

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            made.append("closed")

    program = checked(program_in(tmp_path, engine, "bf16" if engine == "vllm" else "q8_0"))
    hardware, shape = program.hardware["here"], program.parents["tiny"].shape
    monkeypatch.setattr(clock, "Session", Loaded)
    monkeypatch.setattr(clock, "python_of", lambda name: Path(sys.executable))
    with clock.Bed.of(hardware).load(tmp_path, Workload(1, 1, 1), shape, "a child"):
        assert made.count("open") == loads and made.count("closed") == loads - 1
    assert made.count("closed") == loads


def own_build(base: Path) -> Path:
    """Install the wheel's libraries as a user's build, with a header of their structures."""
    import llama_cpp_py_sync
    from llama_cpp_py_sync import _cffi_bindings

    for part in Path(llama_cpp_py_sync.__path__[0]).glob("lib*.so*"):
        (base / "lib").mkdir(parents=True, exist_ok=True)
        shutil.copy(part, base / "lib")
    (base / "include").mkdir()
    (base / "include" / "llama.h").write_text(_cffi_bindings._LLAMA_H_CDEF)
    return base / "lib" / "libllama.so"


def test_the_table_is_llama_cpp_s_and_a_library_of_the_user_s_is_timed_anew(
    tmp_path, few, monkeypatch, capsys
):
    path = program_in(tmp_path)
    assert run(["measure", str(path)]) == 0
    out = capsys.readouterr().out
    assert "llama-cpp-py-sync" in out and "1 threads" in out and "q8_0" in out
    assert "AVX" in out or platform.machine() != "x86_64"
    table = CostTable.from_json((tmp_path / "build" / "costs" / "wide.measured.json").read_bytes())
    (cost,), (timing,) = table.scenarios["chat"], table.timings
    own = cost.attention[0]["parent"]
    assert own.weights_bytes == round(own.params * 34 / 32)
    assert own.kv_cache_bytes == CACHE_CHANNELS * 2  # float16
    layers = zip(cost.attention, cost.ffn, strict=True)
    whole = cost.fixed.decode_ns + sum(a["parent"].decode_ns + f["parent"].decode_ns for a, f in layers)
    assert whole == pytest.approx(timing.parent_decode_ns, rel=1e-3)
    assert run(["measure", str(path)]) == 0 and "up to date" in capsys.readouterr().err
    monkeypatch.setenv("PZL_LLAMA_LIBRARY", str(own_build(tmp_path / "own")))
    assert run(["measure", str(path)]) == 0
    captured = capsys.readouterr()
    assert f"llama.cpp {build_of('llama_cpp')} (" in captured.out and "up to date" not in captured.err


def test_a_library_that_is_not_there_is_said(tmp_path, few, monkeypatch, capsys):
    monkeypatch.setenv("PZL_LLAMA_LIBRARY", str(tmp_path / "lib" / "libllama.so"))
    assert run(["measure", str(program_in(tmp_path))]) == 1
    err = capsys.readouterr().err
    assert "E1805" in err and "include/llama.h" in err


def test_structures_are_those_of_the_library_s_header():
    own = "".join(f"struct {name} {{\n int32_t one; // first\n}};" for name in llama_cpp_engine.GIVEN)
    wheel = own.replace("one;", "zero; size_t one;") + "struct other { int two; };"
    found = llama_cpp_engine.with_structures_of(own, wheel)
    assert "zero" not in found and found.count("int32_t one;") == 4 and "struct other { int two; };" in found


def told_of_caches(monkeypatch) -> list[object]:
    """The types that sessions are told, in order; filled as they begin."""
    told: list[object] = []

    def session_of(name, file, request, size):
        told.append(request.get("cache"))
        return Session(name, file, request, size)

    monkeypatch.setattr(clock, "Session", session_of)
    return told


@pytest.mark.states("space.kv-cache-costs")
@pytest.mark.parametrize(("dtype", "block_bytes"), [("q4_1", 20), *more(("q4_0", 18), ("iq4_nl", 18))])
def test_a_reference_of_four_bits_types_of_sub_blocks_and_a_type_of_keys_and_values(
    tmp_path, few, monkeypatch, dtype, block_bytes
):
    path, told = program_in(tmp_path, dtype=dtype), told_of_caches(monkeypatch)
    text = path.read_text().replace(f"dtype: {dtype}", f"dtype: {dtype}, kv_cache: q8_0")
    path.write_text(text.replace("parent |", "parent(dtype: full | q8_0) |"))
    table = measured(path)
    (cost,) = table.scenarios["chat"]
    for layer in (*cost.attention, *cost.ffn):
        own, rounded = layer["parent"], layer["parent@q8_0"]
        assert rounded.params == own.params
        assert own.weights_bytes == own.params * block_bytes / 32 < rounded.weights_bytes
    assert cost.attention[0]["parent"].kv_cache_bytes == CACHE_CHANNELS * 34 // 32
    assert dtype in table.provenance["chat"] and "KV cache in q8_0" in table.provenance["chat"]
    assert {*told} == {"q8_0"}


@pytest.mark.states("space.kv-cache-costs")
@pytest.mark.parametrize(
    "attention", ["parent(kv_cache: full | q8_0)", *more("parent | gqa(kv_heads: 1, kv_cache: q8_0)")]
)
def test_models_of_each_type_are_timed(tmp_path, few, monkeypatch, attention):
    """Each model has one type, as llama.cpp has; PyTorch, which has none, is not timed."""
    path, told = program_in(tmp_path, dtype="f16"), told_of_caches(monkeypatch)
    text = path.read_text().replace("parent |", f"{attention} |", 1)
    elsewhere = "hardware slow = measured(engine: torch)\nscenario rest on slow = batch(1, 4 -> 2)\n"
    path.write_text(text + elsewhere)
    table = measured(path)
    (cost,) = table.scenarios["chat"]
    assert set(table.scenarios) == {"chat"} and set(told) == {None, "q8_0"}
    names = [name for name in cost.attention[0] if name.endswith("@kv_q8_0")]
    assert names and "parent" in cost.attention[0]
    for name in names:
        plain, own = cost.attention[0].get(name.partition("@")[0]), cost.attention[0][name]
        assert plain is None or own.kv_cache_bytes * 32 == plain.kv_cache_bytes * 17
        assert own.decode_ns > 0


def test_ends_in_fewer_bits_are_timed_searched_and_served(tmp_path, few, capsys):
    """From text to a solution by measured costs in llama.cpp: head and embedding are decisions there."""
    path = program_in(tmp_path)
    choice = "  head = parent(dtype: full | q4_0)\n  embedding = parent(dtype: full | q4_0)\n}\nhardware"
    text = path.read_text().replace("}\nhardware", choice, 1)
    text += 'score kl of wide = table("kl.csv")\nsearch best of wide { minimize kl, require chat.weights <= 0.99x }\n'
    rows = ["layer,attention,ffn,embedding,head,score", ",,,,parent@q4_0,0.001", ",,,parent@q4_0,,9"]
    rows += [",gqa1,,,,5", ",noop,,,,5", ",,mlp64,,,5", ",,noop,,,5"]
    (tmp_path / "kl.csv").write_text("\n".join(rows) + "\n")
    path.write_text(text)
    assert run(["measure", str(path)]) == 0
    table = CostTable.from_json((tmp_path / "build" / "costs" / "wide.measured.json").read_bytes())
    (cost,) = table.scenarios["chat"]
    names = {f"parent{e}/parent{h}" for e in ("", "@q4_0") for h in ("", "@q4_0")}
    assert set(cost.ends) == names and cost.fixed.weights_bytes == cost.fixed.decode_ns == 0
    own, both = cost.ends["parent/parent"], cost.ends["parent@q4_0/parent@q4_0"]
    apart = cost.ends["parent/parent@q4_0"]
    matrix = 260 * SIZES["hidden"]  # embedding and head, untied: 34 bytes for 32 numbers, or 18
    assert own.weights_bytes - apart.weights_bytes == matrix * 16 // 32
    assert own.weights_bytes - both.weights_bytes == 2 * matrix * 16 // 32
    assert apart.params == own.params
    assert any(end.decode_ns > 0 for end in cost.ends.values())  # of a tiny model, noise may hold some at 0
    capsys.readouterr()
    assert run(["solve", str(path)]) == 0
    assert "head                 parent@q4_0" in capsys.readouterr().out


def test_interrupted_it_goes_on_and_prompts_of_traffic_are_timed_at_one_sequence_alone(
    tmp_path, few, monkeypatch
):
    """Prompts of more sequences take as many times as long, and filling the sequences takes long enough."""
    path = program_in(tmp_path)
    path.write_text(path.read_text().replace("batch(2, 8 -> 4)", "traffic(20 req/s, 8 -> 4, at_most: 2)"))
    batches: list[int] = []

    class Counting(Session):
        def __init__(self, engine, path, request, cache_bytes=0):
            self.batch = request["batch"]
            super().__init__(engine, path, request, cache_bytes)

        def prefill(self, prompt):
            batches.append(self.batch)
            return super().prefill(prompt)

    monkeypatch.setattr(clock, "Session", Counting)
    with pytest.raises(Interrupted):
        measured(path, Recorder(limit=2))
    assert len([*(tmp_path / "work").glob("*.rounds.*.json")]) == 2
    progress = Recorder()
    table = measured(path, progress)
    assert table.timings and progress.advanced == progress.named("start")[0]["total"]
    assert set(batches) == {1} and {found.batch for found in table.scenarios["chat"]} == {1, 2}


def test_speeds_of_real_models_in_turn(tmp_path):
    hardware = checked(program_in(tmp_path, dtype="f32")).hardware["here"]
    found = time_in_engine(hardware, Workload(1, 6, 5), [tmp_path / "parent"] * 2, 2)
    assert [(len(samples.prefill), len(samples.decode)) for samples in found] == [(1, 10)] * 2
    assert speed_of(found[0].prefill, found[0].decode).decode_step_s > 0


def test_an_engine_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "python_of", lambda name: None)
    found = refused(measured, program_in(tmp_path, "vllm", "bf16"))
    assert found.kind == EngineAbsent and "make vllm" in found.help and found.span is not None


def test_an_engine_that_dies(tmp_path, monkeypatch):
    path = program_in(tmp_path)
    fake = tmp_path / "python"
    dying = "import sys\nprint('ggml: out of memory', file=sys.stderr)\nsys.exit(3)\n"
    fake.write_text(f"#!{sys.executable}\n{dying}")
    fake.chmod(0o755)
    monkeypatch.setattr(ask, "python_of", lambda name: fake)
    found = refused(measured, path)
    assert found.kind == EngineFailed and "exit code 3: ggml: out of memory" in found.message


def test_what_the_engine_refuses_is_its_word(tmp_path):
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    request = {"batch": 1, "context": 64, "threads": 1, "dtype": "f32", "device": "cpu"}
    with pytest.raises(SessionFailed, match="RuntimeError"):
        Session("llama_cpp", tmp_path / "no.gguf", request)


def test_the_process_ends_with_its_session(tmp_path):
    path = program_in(tmp_path)
    timer = ServingClock(checked(path), "wide", tmp_path / "parent", "here")
    place = timer.place()
    assert place.whole and place.batches == {"chat": [2]}
    timer.round(Workload(2, 8, 4), 0)
    process = timer._loaded[1]._process
    folder = Path(timer._folder)
    assert process.poll() is None and folder.is_dir()
    timer.close()
    assert process.poll() is not None and not folder.exists()


KEEPS_A_WORKER = f"""
import subprocess, sys, time
from puzzledsl.export.engines.ask import environment
command = [sys.executable, {str(Path(engines.__file__).with_name("worker.py"))!r}, "llama_cpp"]
variables = environment("llama_cpp", 1, ".")
print(subprocess.Popen(command, stdin=int(sys.argv[1]), env=variables).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("wait_s", [0.0, *more(3.0)])
def test_a_worker_ends_with_the_process_that_started_it(wait_s):
    """Also where that is killed, before the worker has begun, or while it waits for requests."""
    requests, open_end = os.pipe()
    command = [sys.executable, "-c", KEEPS_A_WORKER, str(requests)]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[requests], text=True)
    worker = int(starter.stdout.readline())
    time.sleep(wait_s)
    os.kill(worker, 0)
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)
    os.close(open_end)
    os.close(requests)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "dtype"), [("vllm", "bf16"), ("mlx", "fp32")])
def test_other_engines(tmp_path, few, engine, dtype):
    assert python_of(engine) is not None, "the extra `runtimes` installs MLX, and `make vllm` vLLM"
    if engine == "vllm":
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    table = measured(program_in(tmp_path, engine, dtype))
    (cost,) = table.scenarios["chat"]
    assert engine in table.provenance["chat"]
    assert table.timings[0].parent_prefill_ns > table.timings[0].parent_decode_ns > 0
    assert sum(costs["parent"].decode_ns for costs in (*cost.attention, *cost.ffn)) > 0
