"""A tiny parent, a child that is near it, and a program that trains or evaluates the child."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import nearest
from puzzledsl.uptrain import train
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain
from puzzledsl.uptrain.train import Trainer
from tests.children import Choice, define, random_pieces
from tests.data.chats import chat_data, write_chats
from tests.pieces.train.bld_programs import WHERE, make_program
from tests.tiny import tiny_tokenizer

LAYERS: tuple[Choice, ...] = (
    (ParentAttention(), MlpFfn(width=20)),
    (GqaAttention(kv_heads=1), ParentFfn()),
    (NoOpAttention(), ParentFfn()),
)


@dataclass
class Case:
    """Paths of a prepared test."""

    base: Path
    program: nodes.Program

    @property
    def parent(self) -> Path:
        return self.base / "parent"

    @property
    def child(self) -> Path:
        return self.base / "models" / "best"

    @property
    def out(self) -> Path:
        return self.base / "models" / "final"


def make_case(
    base: Path, layers: tuple[Choice, ...] = LAYERS, ends: EndsAssignment | None = None, **uptrain: Any
) -> Case:
    """Parent and realised child on disk, text, and an `uptrain final` of ten steps."""
    program = make_program(base, model={"layers": len(layers), "scale": 0.3})
    parent = load_parent(base / "parent")
    random, own = random_pieces(parent, layers), dict(parent.state_dict())

    def near(piece: str) -> dict[str, torch.Tensor]:
        """The parent's weights cut to size, slightly off: a child worth training."""
        sub_block, _, index = piece.partition("-")
        prefix = f"model.layers.{index}.{'self_attn' if sub_block == 'attention' else 'mlp'}."
        cut = {}
        for name, value in random(piece).items():
            whole = own[prefix + name]
            cut[name] = whole[tuple(slice(0, size) for size in value.shape)] + 0.02 * value
            if (dtype := layers[int(index)][sub_block != "attention"].dtype) is not None:
                cut[name] = nearest(cut[name], PRECISIONS[dtype])
        return cut

    definition = define(layers)
    if ends is not None:
        definition = definition.model_copy(update={"ends": ends})
    realise(definition, base / "parent", near, base / "models" / "best")
    goal = {"sense": "minimize", "objective": nodes.Linear(terms=()), "solver": nodes.CpSat()}
    search = nodes.Search(name="best", space="w", where=WHERE, **goal)
    program = program.model_copy(update={"searches": {"best": search}})
    return Case(base, with_uptrain(program, **uptrain))


def with_uptrain(program: nodes.Program, **changes: Any) -> nodes.Program:
    settings: dict[str, Any] = {
        "kld": 1.0,
        "cosine": 1.0,
        "tokens": 640,
        "context": 16,
        "batch": 4,
        "lr": nodes.Schedule(peak=3e-3, warmup=0.2),
        "dtype": "fp32",
        "data": "mix",
        "seed": 1,
    } | changes
    declaration = nodes.Uptrain(name="final", search="best", where=WHERE, **settings)
    return program.model_copy(update={"uptrains": {"final": declaration}})


def run(
    case: Case,
    out: Path,
    work: Path,
    progress: Any = None,
    program: Any = None,
    ranks: Ranks = SINGLE_PROCESS,
):
    folders = case.parent, case.child, out, case.base, work, case.base / "tokens"
    run_uptrain(UptrainInputs(program or case.program, "final", *folders, progress or Silent(), ranks))


def trainer_of(
    case: Case, work: Path, rows: Any, device: str = "cpu", progress: Any = None, **changes: Any
) -> Trainer:
    """A trainer on these blocks, of which the first four are held out."""
    settings = {"lm": 0.5, "batch": 6} | changes
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    declaration = with_uptrain(case.program, **settings).uptrains["final"]
    teacher = Teacher(load_parent(case.parent, dtype=dtype, device=torch.device(device)))
    student = Student(load_child(case.child, device=torch.device(device)))
    return Trainer(declaration, teacher, student, rows, rows.part(0, 4), work, progress or Silent())


def first_step(trainer: Trainer, monkeypatch: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses and gradients of the first step, before clipping; nothing is changed."""
    found: dict[str, torch.Tensor] = {}

    def keep() -> None:
        found.update({name: weight.grad.clone() for name, weight in trainer.child.named_parameters()})

    monkeypatch.setattr(train, "MAX_GRAD_NORM", 1e9)
    monkeypatch.setattr(trainer.optimizer, "step", keep)
    return trainer.step(0), found


TURNS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def with_chats(case: Case) -> Case:
    """The case with conversations for text, of which losses count the answers."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TURNS
    tokenizer.save_pretrained(case.parent)
    asked = [f"what is {i} and {i % 7}" + " so" * (i % 5) for i in range(60)]
    answered = [f"it is {i + i % 7}" + " yes" * (i % 3) for i in range(60)]
    pairs = zip(asked, answered, strict=True)
    chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    write_chats(case.base / "chats.jsonl", chats)
    data = case.program.data["mix"].model_copy(update={"source": chat_data("chats.jsonl").source})
    return Case(case.base, case.program.model_copy(update={"data": {"mix": data}}))
