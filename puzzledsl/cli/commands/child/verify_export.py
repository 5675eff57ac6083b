"""`pzl verify-export`: compare a child's outputs in third-party engines with a reference, and measure its speed there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.loading import JsonOption

if TYPE_CHECKING:
    from puzzledsl.base.progress import Progress
    from puzzledsl.ir.tables import EngineCheck, EngineName

ENGINES = ("transformers", "llama_cpp", "mlx", "vllm")


def verify_export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A child's directory (or a parent's).")],
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="`all` installed engines, or a list such as transformers,llama_cpp,mlx,vllm.",
        ),
    ] = "all",
    parent: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The parent's directory: also measure sizes and tokens a second of both."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engines while they are timed.")] = 1,
    build: Annotated[
        Path | None,
        typer.Option(
            "-o", "--build", metavar="DIR", help="Write engines/NAME.json there; the report shows it."
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run code in DIR that is not, byte for byte, what puzzledsl writes there.",
        ),
    ] = False,
    gguf: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Run this GGUF file of DIR's model in llama.cpp, and compare it with DIR's model with the file's own weights.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run an exported child in each engine and compare logits and greedy tokens with a float64 reference.

    Code in DIR that puzzledsl did not write is refused, and named (E0741).
    Exits with 1 if an engine returns other numbers, crashes, or is named and not installed.
    """
    from puzzledsl.base.build_dir import BuildDir
    from puzzledsl.base.files import write_text
    from puzzledsl.pipeline.process.reporter import Reporter

    engines = _chosen(runtime if gguf is None else "llama_cpp")
    _refuse_absent(engines if runtime != "all" or gguf is not None else [])
    with Reporter(None) as progress:
        if gguf is None:
            check = _check(directory, parent, engines, threads, progress, trust_remote_code)
        else:
            check = _check_file(directory, gguf, progress)
    if build is not None:
        write_text(BuildDir(build).engines(check.name), check.canonical_json())
    if json:
        loading.print_json(check.model_dump(mode="json"))
    else:
        print("\n".join(_lines(check)))
    statuses = {result.status for result in check.results}
    if statuses & {"differs", "crashed"} or "equal" not in statuses:
        raise typer.Exit(1)


def _check(
    directory: Path,
    parent: Path | None,
    engines: list[EngineName],
    threads: int,
    progress: Progress,
    trust: bool,
) -> EngineCheck:
    from puzzledsl.export.verify import verify
    from puzzledsl.ir.tables import EngineCheck
    from puzzledsl.serving.engine_speed import measure

    results = verify(directory, engines, progress, trust=trust)
    speeds = () if parent is None else measure(directory, parent, engines, progress, threads=threads)
    sizes: dict[str, Any] = {} if parent is None else {"prompt": 128, "output": 64, "threads": threads}
    return EngineCheck(name=directory.resolve().name, results=results, speeds=speeds, **sizes)


def _check_file(directory: Path, file: Path, progress: Progress) -> EngineCheck:
    from puzzledsl.export.verify import verify_gguf
    from puzzledsl.ir.tables import EngineCheck

    return EngineCheck(name=directory.resolve().name, results=(verify_gguf(directory, file, progress),))


def _chosen(runtime: str) -> list[EngineName]:
    names = list(ENGINES) if runtime == "all" else [name.strip() for name in runtime.split(",")]
    for name in names:
        if name not in ENGINES:
            known = ", ".join(ENGINES)
            raise typer.BadParameter(f"`{name}` is no engine; engines: all, {known}", param_hint="--runtime")
    return [name for name in ENGINES if name in names]  # type: ignore[misc]


def _refuse_absent(engines: list[EngineName]) -> None:
    """Raise DiagnosticError for engines that were asked for by name and are not installed."""
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.child.definition import NoSuchEngine
    from puzzledsl.export.engines.ask import python_of
    from puzzledsl.ir.engines import RUNTIMES

    absent = [name for name in engines if python_of(name) is None]
    if absent:
        cure = {"vllm": "`scripts/vllm_env.sh` makes an environment with it"}
        other = "pip install 'puzzledsl[runtimes]'"
        raise DiagnosticError(
            *(NoSuchEngine(None, title=RUNTIMES[n].title, help=cure.get(n, other)) for n in absent)
        )


def _lines(check: EngineCheck) -> list[str]:
    from puzzledsl.ir.engines import RUNTIMES

    lines = [f"{check.name} against a float64 reference:"]
    for result in check.results:
        title = f"  {RUNTIMES[result.engine].title:<14}"
        if result.max_delta is None:
            lines.append(f"{title} {result.status}: {result.reason}")
        else:
            lines.append(
                f"{title} {result.status:<8} max |delta logit| {result.max_delta:.1e} of {result.largest:.3g}, "
                f"greedy tokens {result.same}/{result.tokens}  ({result.version})"
            )
        if result.error is not None and result.own_error is not None:
            lines.append(
                f"  relative error {result.error:.2%}; of llama.cpp's own 8-bit file of the same weights {result.own_error:.2%}"
            )
    if check.speeds:
        lines.append(
            f"one sequence of {check.prompt} + {check.output} tokens, {check.threads} thread(s), tokens/s:"
        )
    for speed in check.speeds:
        lines.append(
            f"  {RUNTIMES[speed.engine].title:<14} {speed.dtype:<5} {speed.model:<7} {speed.weights_bytes / 1e6:9.1f} MB"
            f"  prefill {speed.prefill_tokens_per_s:9.1f}  decode {speed.decode_tokens_per_s:8.1f}"
        )
    return lines
