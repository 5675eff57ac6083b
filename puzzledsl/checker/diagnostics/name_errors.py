"""Diagnostics of names and structure: E02xx. Types are in type_errors.py, spaces and hardware in space_errors.py."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnknownName(Diagnostic):
    """A name that is not declared.

    A name is declared in this file, imported by `use`, or bound by a `for`, a `let` or a parameter. The order of
    declarations does not matter; spelling and letter case do.

    Wrong:
        search s of w { minimize kll }
    Right:
        search s of w { minimize kl }
    """

    code = "E0201"
    template = "nothing here is called `{name}`"


class WrongKind(Diagnostic):
    """A name of the wrong kind, such as a bld where a space is needed.

    Each place accepts declarations of certain kinds: `of` in a search needs a space, a scenario needs hardware.

    Wrong:
        search s of kl { minimize kl }
    Right:
        search s of w { minimize kl }
    """

    code = "E0202"
    template = "`{name}` is {got}, but {wanted} is needed here"


class DuplicateName(Diagnostic):
    """Two declarations with the same name.

    All declarations of a program share one namespace, independent of their kind, and so do imported ones.

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

    The settings and arguments are a closed list; the help names them.

    Wrong:
        space v of p { ffn = mlp(widht: 50%) }
    Right:
        space v of p { ffn = mlp(width: 50%) }
    """

    code = "E0204"
    template = "{thing} has no setting `{name}`"


class UnknownAlternative(Diagnostic):
    """An alternative that does not exist for this sub-block.

    Attention can be parent, gqa, linear or noop; an FFN can be parent, mlp, moe, linear or noop.

    Wrong:
        space v of p { attention = parent | conv }
    Right:
        space v of p { attention = parent | gqa(kv_heads: 1) }
    """

    code = "E0205"
    template = "`{name}` is no {sub_block} alternative"


class UnknownAttribute(Diagnostic):
    """An attribute that does not exist, such as `llama.layer` or `chat.memry`.

    Parents have facts, scenarios have metrics, hardware has figures; sub-blocks have the numbers of the chosen
    alternative.

    Wrong:
        search s of w { minimize kl, require chat.memmory <= 8GiB }
    Right:
        search s of w { minimize kl, require chat.memory <= 8GiB }
    """

    code = "E0206"
    template = "{thing} has no `{name}`"


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
    """A declaration or call without a required part.

    The missing part has no default.

    Wrong:
        space v of p { attention = gqa() }
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0209"
    template = "{thing} needs {what}"


class TooManyArguments(Diagnostic):
    """More positional arguments than allowed.

    Most arguments must be named; only the first ones can be positional.

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

    The message shows the cycle. Move what several files need to a file that uses none of them.

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

    `use "file" (names)` imports only names that the file itself declares.

    Wrong:
        use "std/hardware.pzl" (h100)
    Right:
        use "std/hardware.pzl" (h100_sxm)
    """

    code = "E0213"
    template = "`{path}` declares no `{name}`"


class CyclicDefinition(Diagnostic):
    """A value or declaration that depends on itself.

    Definitions can be in any order, but must not be cyclic.

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
    """A statement, operator or expression that is not allowed here.

    The statement exists, but not in this kind of body.

    Wrong:
        space v of p { ffn = parent | noop, minimize kl }
    Right:
        space v of p { ffn = parent | noop }
        search s of v { minimize params }
    """

    code = "E0215"
    template = "{what} is not allowed in {where}"


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
    """Text of `--set` that is not a value.

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
    """A parameter without a default that is not set.

    Every run must set a `param` without a default.

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
    """More work than the checker's limits allow.

    The expansion of a program is bounded, so that a mistake in a range cannot keep the checker busy for hours.

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
    """A declaration whose kind does not match its content.

    The parts after `of`, right of `=` and between braces show the intended kind. The declaration is read as that
    kind, so that no follow-up mistakes are reported.

    Wrong:
        uptrain b of w { train = attention + ffn, tokens = 1M }
    Right:
        bld b of w { train = attention + ffn, tokens = 1M }
    """

    code = "E0222"
    template = "`{name}` is declared as {got} but written like {like}"
