"""Diagnostics: names and structure (x02xx), types and searches (x03xx), parents and spaces (x04xx), declarations."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnknownName(Diagnostic, code="E0201", template="nothing here is called `{name}`"):
    """A name that is not declared."""


class WrongKind(Diagnostic, code="E0202", template="`{name}` is {got}, but {wanted} is needed here"):
    """A name of the wrong kind, such as a bld where a space is needed."""


class DuplicateName(
    Diagnostic, code="E0203", template="`{name}` is declared twice", help="rename one of them"
):
    """Two declarations with the same name."""


class UnknownKey(Diagnostic, code="E0204", template="{thing} has no setting `{name}`"):
    """A setting or argument that does not exist."""


class UnknownAlternative(Diagnostic, code="E0205", template="`{name}` is no {sub_block} alternative"):
    """An alternative that does not exist for this sub-block."""


class UnknownAttribute(Diagnostic, code="E0206", template="{thing} has no `{name}`"):
    """An attribute that does not exist, such as `llama.layer` or `chat.memry`."""


class DuplicateKey(Diagnostic, code="E0208", template="`{name}` is set twice", help="keep one of them"):
    """A setting, argument or objective given twice."""


class MissingPart(Diagnostic, code="E0209", template="{thing} needs {what}"):
    """A declaration or call without a required part."""


class TooManyArguments(Diagnostic, code="E0210", template="`{name}` takes {takes}, not {got}"):
    """More positional arguments than allowed."""


class NoSuchFile(Diagnostic, code="E0211", template="there is no file `{path}` to use"):
    """A `use` of a file that cannot be found."""


class CyclicUse(Diagnostic, code="E0212", template="`{path}` uses itself: {chain}"):
    """Files that use each other."""

    help_template = "move what both need into a third file"


class NotDeclaredThere(Diagnostic, code="E0213", template="`{path}` declares no `{name}`"):
    """A name imported from a file that does not declare it."""


class CyclicDefinition(Diagnostic, code="E0214", template="`{name}` is defined by itself"):
    """A value or declaration that depends on itself."""


class Misplaced(Diagnostic, code="E0215", template="{what} is not allowed in {where}"):
    """A statement, operator or expression that is not allowed here."""


class UnknownSetting(Diagnostic, code="E0216", template="`--set {name}=…`: no parameter is called `{name}`"):
    """`--set` of a parameter that no file declares."""


class BadSetting(Diagnostic, code="E0217", template="`--set {name}={text}`: `{text}` is no value"):
    """Text of `--set` that is not a value."""

    help_template = "write a value as in the file: `--set {name}=90%`, `--set {name}=80GiB`"


class NoValue(Diagnostic, code="E0218", template="parameter `{name}` has no value"):
    """A parameter without a default that is not set."""

    help_template = "give it with `--set {name}=…`, or a default: `param {name}: {type} = …`"


class UnknownType(Diagnostic, code="E0219", template="`{name}` is no type"):
    """A parameter's type that does not exist."""


class TooMuch(Diagnostic, code="E0220", template="{what} is too large: at most {limit}"):
    """More work than the checker's limits allow."""


class AssertionFails(Diagnostic, code="E0221", template="this assertion does not hold"):
    """A false `assert`."""


class OtherKind(Diagnostic, code="E0222", template="`{name}` is declared as {got} but written like {like}"):
    """A declaration whose kind does not match its content."""


class UnlikeComparison(Diagnostic, code="E0301", template="`{op}` compares {left} with {right}"):
    """A comparison of two different dimensions."""


class UnlikeSum(Diagnostic, code="E0302", template="`{op}` combines {left} and {right}"):
    """A sum or difference of two different dimensions."""

    help_template = "both sides of `{op}` must have the same dimension"


class WrongType(Diagnostic, code="E0303", template="{what} must be {wanted}, not {got}"):
    """A value of another type or dimension than needed."""


class OutOfRange(Diagnostic, code="E0304", template="{what} must be {condition}, not {got}"):
    """A number of the right type that is out of range."""


class UnknownWord(Diagnostic, code="E0305", template="`{got}` is no {what}"):
    """A word that is not in a closed list."""


class DivisionByZero(Diagnostic, code="E0306", template="division by zero"):
    """Division or remainder by zero."""


class NotConstant(Diagnostic, code="E0307"):
    """A value that only a search decides, where a constant is needed."""

    template = "{what} must be known before the search, but {got} is what the search decides"


class NotLinear(Diagnostic, code="E0308"):
    """A product or quotient of two values that the search decides."""

    template = "`{op}` {verb} the search decides, so the expression is not linear"
    help_template = (
        "a search adds per-layer tables: write `constant * {example}`, or one `require` for each of the two; "
        "a product of two figures of one layer is a table of that layer and may stand"
    )


class ThroughputAlone(Diagnostic, code="E0309", template="`{metric}` cannot be combined with other terms"):
    """Throughput mixed with other terms: it is batch * output / latency, which is not linear."""


class NotPropositional(Diagnostic, code="E0310"):
    """`and`, `or`, `not`, `implies` over something that is not about a layer's choice."""

    template = "`{op}` joins statements about layers (`layers[3].ffn is noop`), not {got}"


class WhichLayer(Diagnostic, code="E0311", template="this is a statement about {layers} at once"):
    """A statement about all layers, where a statement about one layer is needed."""

    help_template = "name one layer (`layers[i].{sub_block}`), or count them: `count({text}) <= 8`"


class NothingToDecide(Diagnostic, code="E0312"):
    """A constraint or goal that depends on no decision."""

    template = "{what} does not depend on the child: it is always {value}"
    help_template = "name a metric, a score, `params`, `sum(…)`, `count(…)` or `layers[i]`; for constants there is `assert`"


class NotARequirement(Diagnostic, code="E0313", template="`{keyword}` needs {wanted}, not {got}"):
    """`require` of something that is neither a comparison nor a statement about layers."""


class BadEquality(Diagnostic, code="E0314", template="`{op}` cannot be required of {what}"):
    """`==` on a continuous metric, or `!=` on anything a search decides."""


class AgainstTheGrain(Diagnostic, code="W0316"):
    """A goal in the wrong direction: more of a cost, or less throughput."""

    template = "`{keyword}` asks for {direction} of `{what}`, of which {other} is better"


class RatioWithoutMetric(Diagnostic, code="E0315"):
    """A multiple such as `2x` that is not compared with a single metric."""

    template = "`{text}` means {text} the parent's value, so it stands alone on one side of a comparison"


class NotASum(Diagnostic, code="E0317"):
    """`runs`, `longest` or `distinct` in arithmetic, in a goal, or compared with a value that the search decides."""

    template = "`{text}` is no sum over layers, so it can only be compared with a whole number"
    help_template = "let it stand alone on one side of a comparison: `require {text} <= 2`"


class DiffersByLayer(Diagnostic, code="E0319", template="{what} differs from layer to layer"):
    """A figure of a parent or a space that differs from layer to layer."""


class NotAlike(Diagnostic, code="E0318", template="`same as` compares {left} with {right}"):
    """`same as` between two things that never choose the same."""


class LayerOutOfRange(Diagnostic, code="E0401", template="there is no layer {index}"):
    """A layer that the parent does not have."""

    help_template = "`{parent}` has {layers} layers: 0 to {last}, or -{layers} to -1 from the end"


class NoLayers(Diagnostic, code="E0402", template="`{text}` selects no layer"):
    """A selection that is empty."""


class EmptyChoice(Diagnostic, code="E0403", template="{layers} left with no {sub_block} alternative"):
    """A layer left with no alternative."""


class BadWidth(Diagnostic, code="E0404", template="width {got} is {why} (the parent's is {intermediate})"):
    """An FFN width of zero, or wider than the parent's."""


class NotInThisLayer(Diagnostic, code="E0417", template="{layers} cannot have `{text}`: {why}"):
    """An alternative that a layer cannot have."""


class ShapeUnknown(Diagnostic, code="E0405", template="the shape of `{id}` is unknown: {looked}"):
    """Neither a shape nor a readable config.json."""

    help_template = 'give it: `hf("{id}", shape: shape(family: llama, layers: …))`, or one of std/parents.pzl'


class ShapeMismatch(Diagnostic, code="E0406", template="shape says {field}={said}, but {file} says {found}"):
    """A shape that disagrees with the checkpoint's config.json."""

    help_template = "write `{field}: {found}`, or leave the shape out: it is read from config.json"


class UnsupportedParent(Diagnostic, code="E0407", template="{file} cannot be used: {why}"):
    """A config.json that cannot be used."""


class ImpossibleShape(Diagnostic, code="E0408", template="impossible shape: {why}"):
    """A shape that is impossible for a model."""


class BadHardware(Diagnostic, code="E0409", template="{what} of `{hardware}` must be {condition}, not {got}"):
    """A hardware figure that is physically impossible."""


class NoPeak(Diagnostic, code="E0410", template="`{hardware}` has no {dtype} peak"):
    """A dtype in which the hardware cannot compute."""


class OverrideDoesNothing(Diagnostic, code="W0412", template="this changes nothing: {why}"):
    """An override that changes no layer: probably a mistake."""


class OtherSpace(Diagnostic, code="E0413", template="`{name}` is about space `{got}`, not `{wanted}`"):
    """A search, score or space that belongs to another space."""


class NoRunToDrop(Diagnostic, code="E0415", template="space `{space}` cannot drop {length} layers in a row"):
    """Scores of runs for a space that cannot drop two neighbouring layers."""

    help_template = "a layer can be dropped where all that it has, attention and FFN, may be `noop`"


class ComputedIndex(Diagnostic, code="E0414"):
    """A negative index that is the result of a computation."""

    template = "`{text}` is {index} here, which is before the first layer"
    help_template = "a computed index does not count from the end; write the number out: `layers[{index}]`"


class GoalNotMeasured(Diagnostic, code="E0421"):
    """`refine` of a search whose goal is not one score that `pzl` measures on text."""

    template = "`refine` measures children, and the goal of `{search}` is no score that is measured on text"


class RefinesToOne(Diagnostic, code="E0422", help="write `solutions 1`, or `refine = none`"):
    """`refine` of a search for several solutions."""

    template = "`refine` ends in one child, and `{search}` asks for {solutions} solutions"


class NoWeightsToRefine(Diagnostic, code="E0424"):
    """`refine` of a search whose parent is only a shape."""

    template = "`refine` measures children of `{parent}`, which has no weights"
    help_template = (
        'give it a checkpoint, `parent {parent} = hf("ID")`, or write `refine = none` in `{search}`'
    )


class HealedToMeasureAlone(Diagnostic, code="W0425"):
    """`refine` measures healed children of pieces whose `bld` heals none."""

    template = "`refine` measures healed children, and those of `{bld}` are built without healing"
    help_template = "write `healed: 0`, or leave out `heal = 0` in `{bld}`"


class NotBuilt(Diagnostic, code="E0435", template="{what} needs the child of `{search}`, and none is built"):
    """A later stage of a search that is only looked at."""

    help_template = "leave `realise = false` out of `{search}`"


class NotInFull(Diagnostic, code="E0431", help="write `full = {written}`"):
    """`full` of an `eval` that leaves out the child it evaluates."""

    template = "`full` leaves out `{child}`, the child that `{evaluation}` evaluates"


class PromptsNotAFile(Diagnostic, code="E0432"):
    """`prompts` with a string that names neither a `.jsonl` nor a `.txt` file."""

    template = "`prompts` names a file of prompts, and `{path}` is neither a `.jsonl` nor a `.txt` file"
    help_template = 'write `"prompts.txt"`, with blank lines between prompts, or `"prompts.jsonl"`'


class NoSuchFamily(
    Diagnostic, code="E0471", template="{runtime} cannot run children of {family} parents: {reason}"
):
    """The runtime cannot run children of parents of this architecture."""


class CannotRepresent(Diagnostic, code="E0472", template="{runtime} has no {what}: {layers} ({reason})"):
    """An alternative that the runtime lacks and that nothing in the runtime can replace exactly."""


class IsLowered(Diagnostic, code="W0473", template="{runtime} has no {what}"):
    """An alternative that the runtime lacks and that the export rewrites into something the runtime has."""


class LoweringRefused(
    Diagnostic, code="E0474", template="{runtime} has no {what}, and `lower: false` forbids rewriting it"
):
    """An alternative that the runtime lacks, in an export that forbids rewriting with `lower: false`."""


class EngineLacksType(Diagnostic, code="E1806", template="{engine} has no {key} `{value}`"):
    """A data type or device that the engine of `measured(...)` does not have."""


class NotOfPyTorch(Diagnostic, code="E1808"):
    """`threads` for PyTorch, whose threads are those of this process."""

    template = "hardware `{name}` is measured in PyTorch, which takes no `threads` here"
    help_template = "set OMP_NUM_THREADS when you run `pzl`, or name an engine: `engine: llama_cpp`"


class MoneyNotStated(
    Diagnostic, code="E1809", template="`{metric}` needs the `{key}` of hardware `{hardware}` and one batch"
):
    """`cost_per_mtok` or `joules_per_tok` of a scenario that has none."""


class UnusedName(Diagnostic, code="W0201", template="{kind} `{name}` is never used"):
    """A name that is never used."""

    help_template = "use it, remove it, or call it `_{name}`"


class UnusedUse(Diagnostic, code="W0202", template="`{name}` of `{path}` is never used", help="leave it out"):
    """A name that is imported by `use` and never used."""


class WrongWayRound(Diagnostic, code="W0304", help="{direction} of `{what}` is better: write `{instead}`"):
    """A bound in the wrong direction, which the parent meets and better children violate."""

    template = "`{bound}` excludes only children that are better than the parent"


class WindowUnseen(Diagnostic, code="W0305"):
    """A score on short texts that cannot see the loss caused by a window."""

    template = "`{score}` judges windows of {windows} tokens on texts of {seen:,}, and `{scenario}` goes up to {length:,}"
    help_template = "write `context = {length}` in `{bld}`, and `samples: {length}` or more here"


class FewTokensAnExpert(Diagnostic, code="W0306", help="write `calibration = {needed}` or more"):
    """A calibration text that gives an expert fewer tokens than the expert has channels."""

    template = "an expert sees about {seen:,} of {calibration:,} calibration tokens, and has {width:,} channels to fit"


class SameAlternative(Diagnostic, code="W0401", template="this choice has `{name}` twice"):
    """An alternative that the choice already contains."""
