"""Mistakes that the checker reports: names, structure (E02xx, W02xx), types, searches (03xx), parents, spaces (04xx), others."""

from puzzledsl.base.diagnostics import Mistake

UnknownName = Mistake("E0201", "nothing here is called `{name}`")
WrongKind = Mistake("E0202", "`{name}` is {got}, but {wanted} is needed here")
DuplicateName = Mistake("E0203", "`{name}` is declared twice", "rename one of them")
UnknownKey = Mistake("E0204", "{thing} has no setting `{name}`")
UnknownAlternative = Mistake("E0205", "`{name}` is no {sub_block} alternative")
UnknownAttribute = Mistake("E0206", "{thing} has no `{name}`")
DuplicateKey = Mistake("E0208", "`{name}` is set twice", "keep one of them")
MissingPart = Mistake("E0209", "{thing} needs {what}")
TooManyArguments = Mistake("E0210", "`{name}` takes {takes}, not {got}")
NoSuchFile = Mistake("E0211", "there is no file `{path}` to use")
CyclicUse = Mistake("E0212", "`{path}` uses itself: {chain}", "move what both need into a third file")
NotDeclaredThere = Mistake("E0213", "`{path}` declares no `{name}`")
CyclicDefinition = Mistake("E0214", "`{name}` is defined by itself")
Misplaced = Mistake("E0215", "{what} is not allowed in {where}")
UnknownSetting = Mistake("E0216", "`--set {name}=…`: no parameter is called `{name}`")
BadSetting = Mistake(
    "E0217",
    "`--set {name}={text}`: `{text}` is no value",
    "write a value as in the file: `--set {name}=90%`, `--set {name}=80GiB`",
)
NoValue = Mistake(
    "E0218",
    "parameter `{name}` has no value",
    "give it with `--set {name}=…`, or a default: `param {name}: {type} = …`",
)
UnknownType = Mistake("E0219", "`{name}` is no type")
TooMuch = Mistake("E0220", "{what} is too large: at most {limit}")
AssertionFails = Mistake("E0221", "this assertion does not hold")
UnlikeComparison = Mistake("E0301", "`{op}` compares {left} with {right}")
UnlikeSum = Mistake(
    "E0302", "`{op}` combines {left} and {right}", "both sides of `{op}` must have the same dimension"
)
WrongType = Mistake("E0303", "{what} must be {wanted}, not {got}")
OutOfRange = Mistake("E0304", "{what} must be {condition}, not {got}")
UnknownWord = Mistake("E0305", "`{got}` is no {what}")
DivisionByZero = Mistake("E0306", "division by zero")
NotConstant = Mistake("E0307", "{what} must be known before the search, but {got} is what the search decides")
NotLinear = Mistake(
    "E0308",
    "`{op}` {verb} the search decides, so the expression is not linear",
    "a search adds per-layer tables: write `constant * {example}`, or one `require` for each of the two; "
    "a product of two figures of one layer is a table of that layer and may stand",
)
ThroughputAlone = Mistake("E0309", "`{metric}` cannot be combined with other terms")
NotPropositional = Mistake(
    "E0310", "`{op}` joins statements about layers (`layers[3].ffn is noop`), not {got}"
)
WhichLayer = Mistake(
    "E0311",
    "this is a statement about {layers} at once",
    "name one layer (`layers[i].{sub_block}`), or count them: `count({text}) <= 8`",
)
NothingToDecide = Mistake(
    "E0312",
    "{what} does not depend on the child: it is always {value}",
    "name a metric, a score, `params`, `sum(…)`, `count(…)` or `layers[i]`; for constants there is `assert`",
)
BadEquality = Mistake("E0314", "`{op}` cannot be required of {what}")
AgainstTheGrain = Mistake("W0316", "`{keyword}` asks for {direction} of `{what}`, of which {other} is better")
RatioWithoutMetric = Mistake(
    "E0315", "`{text}` means {text} the parent's value, so it stands alone on one side of a comparison"
)
NotASum = Mistake(
    "E0317",
    "`{text}` is no sum over layers, so it can only be compared with a whole number",
    "let it stand alone on one side of a comparison: `require {text} <= 2`",
)
DiffersByLayer = Mistake("E0319", "{what} differs from layer to layer")
NotAlike = Mistake(
    "E0318", "`same as` compares {left} with {right}", "name the same part of both layers, or both whole"
)
LayerOutOfRange = Mistake(
    "E0401",
    "there is no layer {index}",
    "`{parent}` has {layers} layers: 0 to {last}, or -{layers} to -1 from the end",
)
NoLayers = Mistake("E0402", "`{text}` selects no layer")
EmptyChoice = Mistake("E0403", "{layers} left with no {sub_block} alternative")
NotInThisLayer = Mistake("E0417", "{layers} cannot have `{text}`: {why}")
ShapeUnknown = Mistake(
    "E0405",
    "the shape of `{id}` is unknown: {looked}",
    'give it: `hf("{id}", shape: shape(family: llama, layers: …))`, or one of std/parents.pzl',
)
ShapeMismatch = Mistake(
    "E0406",
    "shape says {field}={said}, but {file} says {found}",
    "write `{field}: {found}`, or leave the shape out: it is read from config.json",
)
UnsupportedParent = Mistake("E0407", "{file} cannot be used: {why}")
ImpossibleShape = Mistake("E0408", "impossible shape: {why}")
NoPeak = Mistake("E0410", "`{hardware}` has no {dtype} peak")
OverrideDoesNothing = Mistake("W0412", "this changes nothing: {why}")
OtherSpace = Mistake("E0413", "`{name}` is about space `{got}`, not `{wanted}`")
NoRunToDrop = Mistake(
    "E0415",
    "space `{space}` cannot drop {length} layers in a row",
    "a layer can be dropped where all that it has, attention and FFN, may be `noop`",
)
ComputedIndex = Mistake(
    "E0414",
    "`{text}` is {index} here, which is before the first layer",
    "a computed index does not count from the end: go through fewer layers, or write the number out",
)
GoalNotMeasured = Mistake(
    "E0421", "`refine` measures children, and the goal of `{search}` is no score that is measured on text"
)
RefinesToOne = Mistake(
    "E0422",
    "`refine` ends in one child, and `{search}` asks for {solutions} solutions",
    "write `solutions 1`, or `refine = none`",
)
NoWeightsToRefine = Mistake(
    "E0424",
    "`refine` measures children of `{parent}`, which has no weights",
    'give it a checkpoint, `parent {parent} = hf("ID")`, or write `refine = none` in `{search}`',
)
HealedToMeasureAlone = Mistake(
    "W0425",
    "`refine` measures healed children, and those of `{bld}` are built without healing",
    "write `healed: 0`, or leave out `heal = 0` in `{bld}`",
)
NotBuilt = Mistake(
    "E0435",
    "{what} needs the child of `{search}`, and none is built",
    "leave `realise = false` out of `{search}`",
)
PromptsNotAFile = Mistake(
    "E0432",
    "`prompts` names a file of prompts, and `{path}` is neither a `.jsonl` nor a `.txt` file",
    'write `"prompts.txt"`, with blank lines between prompts, or `"prompts.jsonl"`',
)
NoSuchFamily = Mistake("E0471", "{runtime} cannot run children of {family} parents: {reason}")
CannotRepresent = Mistake("E0472", "{runtime} has no {what}: {layers} ({reason})")
IsLowered = Mistake("W0473", "{runtime} has no {what}")
LoweringRefused = Mistake("E0474", "{runtime} has no {what}, and `lower: false` forbids rewriting it")
EngineLacksType = Mistake("E1806", "{engine} has no {key} `{value}`")
NotOfPyTorch = Mistake(
    "E1808",
    "hardware `{name}` is measured in PyTorch, which takes no `threads` here",
    "set OMP_NUM_THREADS when you run `pzl`, or name an engine: `engine: llama_cpp`",
)
MoneyNotStated = Mistake("E1809", "`{metric}` needs the `{key}` of hardware `{hardware}` and one batch")
UnusedName = Mistake("W0201", "{kind} `{name}` is never used", "use it, remove it, or call it `_{name}`")
UnusedUse = Mistake("W0202", "`{name}` of `{path}` is never used", "leave it out")
WrongWayRound = Mistake(
    "W0304",
    "`{bound}` excludes only children that are better than the parent",
    "{direction} of `{what}` is better: write `{instead}`",
)
WindowUnseen = Mistake(
    "W0305",
    "`{score}` judges windows of {windows} tokens on texts of {seen:,}, and `{scenario}` goes up to {length:,}",
    "write `context = {length}` in `{bld}`, and `samples: {length}` or more here",
)
FewTokensAnExpert = Mistake(
    "W0306",
    "an expert sees about {seen:,} of {calibration:,} calibration tokens, and has {width:,} channels to fit",
    "write `calibration = {needed}` or more",
)
