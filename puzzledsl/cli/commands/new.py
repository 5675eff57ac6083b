"""`pzl new`: write a commented starter program for one parent and one hardware, ready to check."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import closest

if TYPE_CHECKING:
    from puzzledsl.ir.nodes import Shape


TEMPLATES = Path(__file__).parents[1] / "templates"
MEASURED = "measured"
"""Value of `--hardware` for a program that times blocks on this machine."""
NAME_HELP = "The file to write, with or without `.pzl`; `-` prints it. Default: after the parent."
PARENT_HELP = (
    "A checkpoint directory, a GGUF file, a hub id, or a shape of std/parents.pzl such as llama3_1_8b."
)
HARDWARE_HELP = "`measured` for this machine, or a profile of std/hardware.pzl such as h100_sxm."
ENGINE_HELP = "Where the child will be served: it is costed there on this machine, and exported for it."
KEEP_HELP = (
    "As fast as can be while this much accuracy is kept: 95%. Needs questions that the parent can answer."
)


def new(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help=NAME_HELP)] = None,
    parent: Annotated[str, typer.Option(metavar="DIR|ID|SHAPE", help=PARENT_HELP)] = "smollm2_135m",
    hardware: Annotated[str, typer.Option("--hardware", metavar="PROFILE", help=HARDWARE_HELP)] = MEASURED,
    engine: Annotated[str, typer.Option(metavar="torch|llama_cpp|vllm|mlx", help=ENGINE_HELP)] = "torch",
    keep: Annotated[str | None, typer.Option("--keep", metavar="SHARE", help=KEEP_HELP)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented program to start from: a parent, a space, hardware, data, pieces, scores and a search."""
    from puzzledsl.pipeline.errors import FileExists
    from puzzledsl.syntax.format import format_source

    known = _hardware(hardware)
    if engine not in HERE:
        message = f"`{engine}` is no engine; engines: {', '.join(HERE)}"
        raise typer.BadParameter(message, param_hint="--engine")
    if keep is not None and not re.fullmatch(r"\d{1,2}(\.\d+)?%|0?\.\d+", keep):
        raise typer.BadParameter(f"`{keep}` is no share below 100 %; write `95%`", param_hint="--keep")
    asked = known, engine, keep or ""
    if name == "-":
        sys.stdout.write(_checked(format_source(program(_parent(parent, None), *asked)), Path("new.pzl")))
        return
    path = Path(name if name and name.endswith(".pzl") else f"{name or _stem(parent)}.pzl")
    if path.exists() and not force:
        raise DiagnosticError(FileExists(None, path=path))
    write_text(path, _checked(format_source(program(_parent(parent, path.parent), *asked)), path))
    given = shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
    print(f"wrote {path}\nnext: pzl check {given}; pzl show {given}; then edit it, and pzl run {given}")


class ParentLines(Record):
    """Parts of a parent's declaration: its `use` line (or empty) and `value`, its shape, and the program's first comment."""

    use: str
    value: str
    shape: Shape
    comment: str


class Budget(Record):
    """Tokens of a starter to train a piece, to heal a child, to train it, and in a sequence; samples of a score; a remark."""

    piece: str
    healed: str
    child: str
    context: int
    samples: int
    remark: str


CPU = Budget("4Ki", "4Ki", "16Ki", 256, 256, "; on a GPU take 64Ki")
GPU = Budget("64Ki", "24Ki", "1Mi", 512, 2048, "")
HERE = {
    "torch": (
        "measured(device: cpu, dtype: fp32)",
        "`pzl measure` times real blocks here; device: cuda for a GPU",
    ),
    "mlx": (
        "measured(device: cpu, dtype: fp32)",
        "`pzl measure` times real blocks here; device: mps on a Mac",
    ),
    "llama_cpp": (
        "measured(engine: llama_cpp, dtype: q8_0)",
        "`pzl measure` times models in llama.cpp here, on all cores; threads: 1 for one",
    ),
    "vllm": ("measured(engine: vllm, dtype: bf16)", "`pzl measure` times models in vLLM here"),
}
"""Engine -> the hardware that measures with it on this machine, and the comment behind that."""
EXPORTS = {
    "torch": 'hf("child")  # runtime: vllm, or gguf("child.gguf"), mlx("child")',
    "mlx": 'mlx("child")',
    "llama_cpp": 'gguf("child.gguf", lower: true)  # then chat: llama-server -m child.gguf',
    "vllm": 'hf("child", runtime: vllm, lower: true)',
}
"""Engine -> the value of the `export` declaration."""


def program(parent: ParentLines, hardware: str, engine: str, keep: str) -> str:
    """Return the text of the starter. `keep`: the share of accuracy to require, such as 95%; if empty, it requires a speed."""
    from puzzledsl.report.numbers import environment

    shape, uses, (here, why) = parent.shape, [parent.use] if parent.use else [], HERE[engine]
    if hardware != MEASURED:
        uses.append(f'use "std/hardware.pzl" ({hardware})')
        here = f"{hardware}(gpus: 1)"
        why = "an analytic profile; `measured(device: cuda, dtype: bf16)` times real blocks"
    return (
        environment(TEMPLATES)
        .get_template("new.pzl.j2")
        .render(
            parent=parent,
            uses=uses,
            keep=keep,
            attention=_attention(shape, engine),
            ffn=_ffn(shape, engine),
            bits=BITS if _has_bits(shape, engine) else "",
            here=here,
            why=why,
            budget=CPU if hardware == MEASURED else GPU,
            calibration=_calibration(shape),
            export=EXPORTS[engine],
        )
    )


def _calibration(shape: Shape) -> int:
    """Return the thousands (Ki) of calibration tokens that give each expert as many as its channels; 0 if the default does."""
    from puzzledsl.ir.nodes import Bld

    mixtures = [own for own in shape.each if own.ffn == "moe"]
    needed = max((-(-own.expert_width * own.experts // own.top_k) for own in mixtures), default=0)
    return 0 if needed <= Bld.model_fields["calibration_tokens"].default else -(-needed // 1024)


BITS = "parent(dtype: full | iq4_nl)"
"""The weight types that a starter for llama.cpp offers each sub-block. `full` is the hardware's own type, q8_0."""
SMALL_SHARE = 0.1
"""Share of a layer's parameters below which attention gets no smaller alternatives, as they would save next to nothing."""


def _has_bits(shape: Shape, engine: str) -> bool:
    """Return True if the starter offers bits: for llama.cpp and a parent with attention in each layer and no mixtures."""
    return engine == "llama_cpp" and all(own.ffn != "moe" and own.mixer == "attention" for own in shape.each)


def _attention(shape: Shape, engine: str) -> str:
    """Return the alternatives of attention: the parent's, bits for llama.cpp, else fewer key/value heads and linear; noop."""
    from puzzledsl.alternatives.parent import ParentAttention
    from puzzledsl.ir.facts import layer_fact

    if _has_bits(shape, engine):
        return f"{BITS} | noop"
    own = ParentAttention().params(shape.at(0))
    if own and own < SMALL_SHARE * int(layer_fact(shape.at(0), "params")):
        return "parent | noop"
    most = max((own.kv_heads for own in shape.each if own.mixer == "attention"), default=1)
    heads = [d for d in range(most - 1, 0, -1) if most % d == 0][:3]
    gqa = f"gqa(kv_heads: {' | '.join(map(str, heads))}) | " if heads else ""
    return f"parent | {gqa}{_linear(engine)}noop"


def _ffn(shape: Shape, engine: str) -> str:
    """Return the alternatives of FFNs: the parent's, bits for llama.cpp, else narrower ones, fewer experts and linear; noop."""
    if _has_bits(shape, engine):
        return f"{BITS} | noop"
    found = ["parent"]
    if mixture := next((own for own in shape.each if own.ffn == "moe"), None):
        counts = [n for n in (mixture.experts * 3 // 4, mixture.experts // 2) if n >= mixture.top_k]
        found += [f"moe(experts: {' | '.join(map(str, counts))})"] if counts else []
        found += [f"moe(width: 50%, round: {_grid(mixture.expert_width)})"]
    if dense := next((own for own in shape.each if own.ffn == "dense"), None):
        found += [f"mlp(width: 75% | 50% | 25%, round: {_grid(dense.intermediate)})"]
    return " | ".join([*found, f"{_linear(engine)}noop"])


def _linear(engine: str) -> str:
    """Return `linear | ` if the engine runs linear maps as such, else nothing: other engines run them as something larger."""
    return "linear | " if engine in ("torch", "mlx") else ""


def _grid(width: int) -> int:
    return 256 if width >= 4096 else 64 if width >= 1024 else 8


_STD_PARENT = re.compile(r"^# ([\w-]+/[\w.-]+)\n(?:#.*\n)*let (\w+) = ", re.MULTILINE)


def std_parents() -> dict[str, str]:
    """Return the shapes of std/parents.pzl: name -> hub id."""
    from puzzledsl.base.resources import resource

    text = resource("spaces", "std/parents.pzl").read_text("utf-8")
    return {name: id for id, name in _STD_PARENT.findall(text)}


def _parent(given: str, folder: Path | None) -> ParentLines:
    """Read a checkpoint, GGUF file, shape or hub id. `folder`: the program's; None: it is printed. Raises DiagnosticError."""
    from puzzledsl.checker.check import shipped_shapes
    from puzzledsl.families.config import BadConfig, checkpoints_beside
    from puzzledsl.families.registry import read_config
    from puzzledsl.pipeline.errors import NoSuchParent

    shapes, relative, origin = std_parents(), "", ""
    if Path(given).is_file() and given.endswith(".gguf"):
        given, origin = _dequantised(given, folder)
        relative = Path(given).name
    if (Path(given) / "config.json").is_file():
        try:
            shape = read_config(Path(given) / "config.json")
        except BadConfig as error:
            raise DiagnosticError(NoSuchParent(None, given=given, why=str(error))) from error
        assert shape is not None
        path = given if Path(given).is_absolute() else os.path.relpath(given, folder or Path())
        relative = relative or Path(path).as_posix()
        comment = f"A faster, smaller {Path(given).resolve().name}.{origin}"
        return ParentLines("", f'hf("{relative}")', shape, comment)
    # a base model's shape is its instruct version's, too
    alike = (n for n, id in shapes.items() if "/" in given and _without_suffix(id) == _without_suffix(given))
    name = given if given in shapes else next(alike, None)
    if name is not None:
        id = given if "/" in given else shapes[name]
        use, value = f'use "std/parents.pzl" ({name})', f'hf("{id}", shape: {name})'
        return ParentLines(use, value, shipped_shapes()[name], f"A faster, smaller {id}.")
    near = closest(given, [*shapes, *shapes.values(), *checkpoints_beside(Path(given), given)])
    known = "shapes: " + ", ".join(shapes) + "; or a directory with config.json"
    why = "there is no such directory, and std/parents.pzl has no such shape"
    if Path(given).is_dir():
        why = "it has no config.json"
    elif Path(given).exists():
        why = "it is a file; a parent is a directory, or a file that ends in .gguf"
    raise DiagnosticError(NoSuchParent(None, given=given, why=why, near=near, help=known))


def _dequantised(given: str, folder: Path | None) -> tuple[str, str]:
    """Write a GGUF file's weights to a directory in `folder` unless it exists; return its path and a remark on their type."""
    from puzzledsl.export.gguf_parent import NotAParent, storage_type, write_parent
    from puzzledsl.pipeline.errors import NoSuchParent

    if folder is None:
        why = "its weights go into a directory beside the program, and `-` writes nothing"
        help = f"name the program: `pzl new {_stem(Path(given).stem)} --parent {shlex.quote(given)}`"
        raise DiagnosticError(NoSuchParent(None, given=given, why=why, help=help))
    directory = folder / Path(given).stem
    try:
        kind = storage_type(Path(given))
        if not directory.exists():
            write_parent(Path(given), directory)
    except NotAParent as error:
        raise DiagnosticError(NoSuchParent(None, given=given, why=str(error))) from error
    print(f"dequantised {given} ({kind}) into {directory}", file=sys.stderr)
    flattered = f" It was stored in {kind}: rounding it to that grid again costs less than it would cost the original."
    return str(directory), "" if kind in ("f32", "f16", "bf16") else flattered


def _without_suffix(id: str) -> str:
    return re.sub(r"-(instruct|base)\b", "", id.lower().replace("/meta-llama-3", "/llama-3"))


def _checked(text: str, path: Path) -> str:
    """Make a starter's folder; check and return its text. Raises DiagnosticError: say, the engine lacks a part of the parent."""
    from puzzledsl.checker.check import inspect

    place, is_new = path.resolve(), not path.parent.exists()
    place.parent.mkdir(parents=True, exist_ok=True)  # its paths start there
    checked, _ = inspect(place, {}, {str(place): text})
    if checked.program is None:
        if is_new:
            os.removedirs(place.parent)
        first = next(d for d in checked.diagnostics if d.severity == "error")
        help = "`pzl new --engine torch` starts with what runs everything; docs/std.md#runtimes: what each engine runs"
        raise DiagnosticError(replace(first, span=None, secondary=(), help=help))  # no file has its line
    return text


def _hardware(given: str) -> str:
    """Return `given` if it is `measured` or a profile of std/hardware.pzl. Raises DiagnosticError for any other name."""
    from puzzledsl.checker.check import shipped_profiles
    from puzzledsl.pipeline.errors import NoSuchProfile

    known = [MEASURED, *shipped_profiles()]
    if given in known:
        return given
    near = closest(given, known)
    raise DiagnosticError(NoSuchProfile(None, given=given, near=near, help="profiles: " + ", ".join(known)))


def _stem(parent: str) -> str:
    """Return a file name without ending, made of a parent's name: letters, digits and `_`."""
    return re.sub(r"\W+", "_", Path(parent).name.lower()).strip("_") or "search"
