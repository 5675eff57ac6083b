"""Model definition of a solution: the piece of each sub-block, by the jobs of the BLD declarations. Imports no torch."""

from collections.abc import Iterable, Sequence

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import Args, DiagnosticError, Mistake
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import BldJob, LayerDefinition, ModelDefinition, Solution

WouldOverwrite = Mistake(
    "E0731", "`{path}` exists and is not a child checkpoint", "choose another directory, or remove this one"
)
RuntimeLacksFamily = Mistake(
    "E0733",
    "{runtime} cannot run children of {family} parents: {reason}",
    "export with `runtime: transformers`, or with `mlx(…)`",
)
RuntimeLacksIt = Mistake(
    "E0734",
    "{runtime} cannot represent `{name}` ({layers}): {reason}",
    "export with `runtime: transformers`, or leave `{name}` out of the space",
)
RuntimeLacksWindow = Mistake(
    "E0735",
    "{runtime} cannot represent the parent's sliding window of {window:,} tokens ({layers}): {reason}",
    "export with `runtime: transformers`, or with `mlx(…)`",
)
MissingPackage = Mistake(
    "E0738",
    "{what} needs the package `{package}`, which is not installed",
    "pip install 'puzzledsl[{extra}]'",
)
NoSuchEngine = Mistake("E0739", "{title} is not installed here")
NotAGguf = Mistake("E0740", "`{path}` exists and is no GGUF file", "choose another name, or remove this one")
RecipeFailed = Mistake(
    "E0742",
    "llama.cpp could not quantise the child to `{recipe}`: {reason}",
    "export with `dtype: q8_0` or `dtype: f16`, which puzzledsl writes itself",
)
NotThisChild = Mistake(
    "E0743",
    "`{path}` is not made of this child: {reason}",
    "name the file that was exported from this directory, or export it again",
)
UntrustedCode = Mistake(
    "E0741",
    "`{path}` is not what puzzledsl writes: {reason}",
    "nothing of it was run; export the child again, or give `--trust-remote-code` if you know this code",
)
NoPiece = Mistake(
    "E1021", "search `{search}` chose {what} in {layers}, and no `bld` of space `{space}` makes {it}"
)


Pieces = dict[tuple[int, AttentionAlternative | None, FfnAlternative | None], str]


def model_definition(
    program: Program, search: str, solution: Solution, jobs: Iterable[BldJob]
) -> ModelDefinition:
    """Return the definition of the child of one solution, preferring jointly trained (coupled) pieces.

    `jobs` may come from several declarations; of two that make the same piece the first counts.
    Raises DiagnosticError (NoPiece), once for each alternative that nothing makes; ValueError for a solution
    of another space.
    """
    space = program.spaces[program.searches[search].space]
    known = list(jobs)
    heads: dict[str, str] = {job.head: job.id for job in reversed(known) if job.head is not None}
    pieces = pieces_of(known)
    missing: dict[str, list[int]] = {}
    layers = []
    for index, (choice, names) in enumerate(zip(space.layers, solution.of_layers, strict=True)):
        attention, ffn = choice.by_name()
        if names.attention not in attention or names.ffn not in ffn:
            wanted = f"{names.attention}/{names.ffn}"
            raise ValueError(f"a layer of the space has no {wanted}: solve the search again")
        chosen = attention[names.attention], ffn[names.ffn]
        definition, lacking = layer_of_pieces(index, *chosen, pieces)
        layers.append(definition)
        for name in lacking:
            missing.setdefault(name, []).append(index)
    if missing:
        raise _no_piece(program, search, missing)
    types = solution.ends.types
    # a head that is the embedding's matrix has no piece: it is no multiplication alone
    shared = program.parents[space.parent].shape.tied and types.get("embedding") == types.get("head")
    return ModelDefinition(
        name=search,
        search=search,
        parent=space.parent,
        layers=tuple(layers),
        ends=solution.ends,
        head_piece=None if shared else heads.get(types.get("head", "")),
    )


def pieces_of(jobs: Sequence[BldJob]) -> Pieces:
    """Return the pieces of sub-blocks and of blocks, by layer and alternatives; of two alike the first counts."""
    return {(job.layer, job.attention, job.ffn): job.id for job in reversed(jobs) if job.head is None}


def layer_of_pieces(
    index: int, attention: AttentionAlternative, ffn: FfnAlternative, pieces: Pieces
) -> tuple[LayerDefinition, list[str]]:
    """Return the definition of layer `index`, with a coupled piece if there is one, and its alternatives without a piece."""
    made = attention.of_piece
    block = pieces.get((index, made, ffn))
    if block is not None:
        return LayerDefinition(attention=attention, ffn=ffn, block_piece=block), []
    own = pieces.get((index, made, None)), pieces.get((index, None, ffn))
    parts = zip(("attention", "ffn"), (attention, ffn), own, strict=True)
    lacking = [f"{name} `{part.name}`" for name, part, piece in parts if part.trainable and piece is None]
    return LayerDefinition(attention=attention, ffn=ffn, attention_piece=own[0], ffn_piece=own[1]), lacking


def _no_piece(program: Program, search: str, missing: dict[str, list[int]]) -> DiagnosticError:
    declaration = program.searches[search]
    span = span_of(declaration.where)
    blds = [name for name, bld in program.blds.items() if bld.space == declaration.space]
    if blds:
        help = f"`bld {blds[0]}` trains other sub-blocks: write `train = attention + ffn` in it"
    else:
        help = f"declare `bld pieces of {declaration.space} {{ train = attention + ffn, … }}`"
    said: Args = {"search": search, "space": declaration.space, "help": help}
    problems = []
    for what, layers in missing.items():
        it = "it" if len(layers) == 1 else "them"
        problems.append(NoPiece(span, what=what, layers=layers_in_words(layers), it=it, **said))
    return DiagnosticError(*problems)
