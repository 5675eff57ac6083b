"""Diagnostics of names and structure: E02xx. Types are in type_errors.py, spaces and hardware in space_errors.py."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnknownName(Diagnostic, code="E0201"):
    """A name that is not declared."""

    template = "nothing here is called `{name}`"


class WrongKind(Diagnostic, code="E0202"):
    """A name of the wrong kind, such as a bld where a space is needed."""

    template = "`{name}` is {got}, but {wanted} is needed here"


class DuplicateName(Diagnostic, code="E0203"):
    """Two declarations with the same name."""

    template = "`{name}` is declared twice"
    help_template = "rename one of them"


class UnknownKey(Diagnostic, code="E0204"):
    """A setting or argument that does not exist."""

    template = "{thing} has no setting `{name}`"


class UnknownAlternative(Diagnostic, code="E0205"):
    """An alternative that does not exist for this sub-block."""

    template = "`{name}` is no {sub_block} alternative"


class UnknownAttribute(Diagnostic, code="E0206"):
    """An attribute that does not exist, such as `llama.layer` or `chat.memry`."""

    template = "{thing} has no `{name}`"


class DuplicateKey(Diagnostic, code="E0208"):
    """A setting, argument or objective given twice."""

    template = "`{name}` is set twice"
    help_template = "keep one of them"


class MissingPart(Diagnostic, code="E0209"):
    """A declaration or call without a required part."""

    template = "{thing} needs {what}"


class TooManyArguments(Diagnostic, code="E0210"):
    """More positional arguments than allowed."""

    template = "`{name}` takes {takes}, not {got}"


class NoSuchFile(Diagnostic, code="E0211"):
    """A `use` of a file that cannot be found."""

    template = "there is no file `{path}` to use"


class CyclicUse(Diagnostic, code="E0212"):
    """Files that use each other."""

    template = "`{path}` uses itself: {chain}"
    help_template = "move what both need into a third file"


class NotDeclaredThere(Diagnostic, code="E0213"):
    """A name imported from a file that does not declare it."""

    template = "`{path}` declares no `{name}`"


class CyclicDefinition(Diagnostic, code="E0214"):
    """A value or declaration that depends on itself."""

    template = "`{name}` is defined by itself"
    help_template = "{chain}"


class Misplaced(Diagnostic, code="E0215"):
    """A statement, operator or expression that is not allowed here."""

    template = "{what} is not allowed in {where}"


class UnknownSetting(Diagnostic, code="E0216"):
    """`--set` of a parameter that no file declares."""

    template = "`--set {name}=…`: no parameter is called `{name}`"


class BadSetting(Diagnostic, code="E0217"):
    """Text of `--set` that is not a value."""

    template = "`--set {name}={text}`: `{text}` is no value"
    help_template = "write a value as in the file: `--set {name}=90%`, `--set {name}=80GiB`"


class NoValue(Diagnostic, code="E0218"):
    """A parameter without a default that is not set."""

    template = "parameter `{name}` has no value"
    help_template = "give it with `--set {name}=…`, or a default: `param {name}: {type} = …`"


class UnknownType(Diagnostic, code="E0219"):
    """A parameter's type that does not exist."""

    template = "`{name}` is no type"


class TooMuch(Diagnostic, code="E0220"):
    """More work than the checker's limits allow."""

    template = "{what} is too large: at most {limit}"


class AssertionFails(Diagnostic, code="E0221"):
    """A false `assert`."""

    template = "this assertion does not hold"


class MistakenKind(Diagnostic, code="E0222"):
    """A declaration whose kind does not match its content."""

    template = "`{name}` is declared as {got} but written like {like}"
