"""Mistakes in names and structure: E02xx. Types are in errors_types.py, spaces and hardware in errors_spaces.py."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class UnknownName(Diagnostic):
    """A name that nothing declares.

    A name is declared in this file, or brought in by `use`, or bound by a `for`, a `let` or a parameter.
    Order does not matter; spelling and letter case do.

    Wrong:
        search s of w { minimize kll }
    Right:
        search s of w { minimize kl }
    """

    code = "E0201"
    template = "nothing here is called `{name}`"


class WrongKind(Diagnostic):
    """A name of the wrong kind, such as a bld where a space is needed.

    Each place wants declarations of certain kinds: `of` a search wants a space, a scenario wants hardware.

    Wrong:
        search s of kl { minimize kl }
    Right:
        search s of w { minimize kl }
    """

    code = "E0202"
    template = "`{name}` is {got}, but {wanted} is needed here"


class DuplicateName(Diagnostic):
    """Two declarations of one name.

    All declarations of a program share one set of names, whatever their kind, and so do those that `use`
    brings in.

    Wrong:
        let limit = 10GiB
        let limit = 12GiB
    Right:
        let limit = 10GiB
        let most = 12GiB
    """

    code = "E0203"
    template = "`{name}` is declared twice"
    help_template = "rename one of them"


class UnknownKey(Diagnostic):
    """A setting or argument that does not exist.

    The settings and arguments of a thing are a closed list; the help names them.

    Wrong:
        space v of p { ffn = mlp(widht: 50%) }
    Right:
        space v of p { ffn = mlp(width: 50%) }
    """

    code = "E0204"
    template = "{thing} has no setting `{name}`"


class UnknownAlternative(Diagnostic):
    """Something a sub-block cannot become.

    Attention may become parent, gqa, linear or noop; an FFN parent, mlp, moe, linear or noop.

    Wrong:
        space v of p { attention = parent | conv }
    Right:
        space v of p { attention = parent | gqa(kv_heads: 1) }
    """

    code = "E0205"
    template = "`{name}` is no {sub_block} alternative"


class UnknownAttribute(Diagnostic):
    """`llama.layer`, `chat.memry`.

    Parents have facts, scenarios metrics, hardware figures; sub-blocks have numbers of the alternative that
    is chosen.

    Wrong:
        search s of w { minimize kl, require chat.memmory <= 8GiB }
    Right:
        search s of w { minimize kl, require chat.memory <= 8GiB }
    """

    code = "E0206"
    template = "{thing} has no `{name}`"


class KvHeadsDontDivide(Diagnostic):
    """Grouped-query attention needs equal groups.

    Grouped-query attention shares every key/value head among equally many query heads, and new heads are
    made by merging the parent's in equal groups.

    Wrong:
        space v of p { attention = gqa(kv_heads: 3) }
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0207"
    template = "kv_heads={got} does not divide the parent's {heads} {what} heads"


class DuplicateKey(Diagnostic):
    """A setting, argument or objective given twice.

    A setting has one value. Choices are joined with `|`, further goals are `prefer`.

    Wrong:
        search s of w { minimize kl, minimize params }
    Right:
        search s of w { minimize kl, prefer -params }
    """

    code = "E0208"
    template = "`{name}` is set twice"
    help_template = "keep one of them"


class MissingPart(Diagnostic):
    """A declaration or call that lacks something it needs.

    Something that has no default is left out.

    Wrong:
        space v of p { attention = gqa() }
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0209"
    template = "{thing} needs {what}"


class TooManyArguments(Diagnostic):
    """More positional arguments than there are places.

    Most arguments are written with their names; only the first ones may stand without.

    Wrong:
        space v of p { ffn = mlp(50%, 16) }
    Right:
        space v of p { ffn = mlp(50%, round: 16) }
    """

    code = "E0210"
    template = "`{name}` takes {takes}, not {got}"


class NoSuchFile(Diagnostic):
    """A `use` of a file that cannot be found.

    A path is relative to the file in which the `use` stands; files that come with pzl begin with `std/`.

    Wrong:
        use "hardware.pzl" (h100_sxm)
    Right:
        use "std/hardware.pzl" (h100_sxm)
    """

    code = "E0211"
    template = "there is no file `{path}` to use"


class CyclicUse(Diagnostic):
    """Files that use each other.

    The message shows the way round. What several files need belongs into one that uses none of them.

    Wrong:
        use "example.pzl"
    Right:
        use "std/spaces.pzl" (puzzle_ffn)
    """

    code = "E0212"
    template = "`{path}` uses itself: {chain}"
    help_template = "move what both need into a third file"


class NotDeclaredThere(Diagnostic):
    """A name imported from a file that does not declare it.

    `use "file" (names)` brings in what that file itself declares.

    Wrong:
        use "std/hardware.pzl" (h100)
    Right:
        use "std/hardware.pzl" (h100_sxm)
    """

    code = "E0213"
    template = "`{path}` declares no `{name}`"


class CyclicDefinition(Diagnostic):
    """A value or declaration that needs itself.

    Definitions may come in any order, but following them must come to an end.

    Wrong:
        let a = b + 1
        let b = a - 1
    Right:
        let a = b + 1
        let b = 2
    """

    code = "E0214"
    template = "`{name}` is defined by itself"
    help_template = "{chain}"


class Misplaced(Diagnostic):
    """A statement, operator or expression where it has no meaning.

    The statement exists, but not in this kind of body.

    Wrong:
        space v of p { ffn = parent | noop, minimize kl }
    Right:
        space v of p { ffn = parent | noop }
        search s of v { minimize params }
    """

    code = "E0215"
    template = "{what} has no place in {where}"


class UnknownSetting(Diagnostic):
    """`--set` of a parameter that no file declares.

    `--set` gives a value to a `param` of the program or of a file that it uses.

    Wrong:
        # --set hedroom=90%
        param headroom: Ratio = 95%
    Right:
        # --set headroom=90%
        param headroom: Ratio = 95%
    """

    code = "E0216"
    template = "`--set {name}=…`: no parameter is called `{name}`"


class BadSetting(Diagnostic):
    """`--set` of something that is no value.

    The value of `--set` is written as it would be in the file.

    Wrong:
        # --set headroom=90%%
        param headroom: Ratio = 95%
    Right:
        # --set headroom=90%
        param headroom: Ratio = 95%
    """

    code = "E0217"
    template = "`--set {name}={text}`: `{text}` is no value"
    help_template = "write a value as in the file: `--set {name}=90%`, `--set {name}=80GiB`"


class NoValue(Diagnostic):
    """A parameter without a default that nobody set.

    A `param` without a default is one that every run must set.

    Wrong:
        param headroom: Ratio
    Right:
        param headroom: Ratio = 95%
    """

    code = "E0218"
    template = "parameter `{name}` has no value"
    help_template = "give it with `--set {name}=…`, or a default: `param {name}: {type} = …`"


class UnknownType(Diagnostic):
    """A parameter's type that does not exist.

    Types of parameters: Count, Ratio, Bytes, Time, Tokens, Bandwidth, Compute, Throughput, Text, Bool.

    Wrong:
        param limit: Byte = 8GiB
    Right:
        param limit: Bytes = 8GiB
    """

    code = "E0219"
    template = "`{name}` is no type"


class TooMuch(Diagnostic):
    """Work beyond what a program can mean: the guard against explosion.

    What a program unfolds to is bounded, so that a slip in a range cannot keep the checker busy for hours.

    Wrong:
        let many = sum(i for i in 1..100000000)
    Right:
        let many = sum(i for i in 1..100)
    """

    code = "E0220"
    template = "{what} is too large: at most {limit}"


class AssertionFails(Diagnostic):
    """A false `assert`.

    An `assert` states what the rest of the program relies on. The message shows the values of both sides.

    Wrong:
        assert p.layers == 32
    Right:
        assert p.layers == 4
    """

    code = "E0221"
    template = "this assertion does not hold"


class MistakenKind(Diagnostic):
    """A declaration that says one kind and is written like another.

    What stands behind `of`, right of `=` and between braces tells what a declaration is. It is read as that, so that
    nothing that follows from the wrong kind is reported as well.

    Wrong:
        uptrain b of w { train = attention + ffn, tokens = 1M }
    Right:
        bld b of w { train = attention + ffn, tokens = 1M }
    """

    code = "E0222"
    template = "`{name}` is declared as {got} but written like {like}"


class SinksDontFit(Diagnostic):
    """`sinks` that a window has no room for.

    `sinks` says how many of the tokens that a window lets a token see are the first of its sequence. It needs a window,
    larger than `sinks` since a token sees itself, in a parent whose own attention sees everything.

    Wrong:
        space v of p { attention = gqa(kv_heads: 2, sinks: 4) }
    Right:
        space v of p { attention = gqa(kv_heads: 2, window: 64, sinks: 4) }
    """

    code = "E0223"
    template = "no room for {sinks} first tokens: this attention {reason}"
