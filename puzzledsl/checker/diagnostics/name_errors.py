"""Diagnostics of names and structure: E02xx. Types are in type_errors.py, spaces and hardware in space_errors.py."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnknownName(Diagnostic, code="E0201", template="nothing here is called `{name}`"):
    """A name that is not declared."""


class WrongKind(Diagnostic, code="E0202", template="`{name}` is {got}, but {wanted} is needed here"):
    """A name of the wrong kind, such as a bld where a space is needed."""


class DuplicateName(Diagnostic, code="E0203", template="`{name}` is declared twice"):
    """Two declarations with the same name."""

    help_template = "rename one of them"


class UnknownKey(Diagnostic, code="E0204", template="{thing} has no setting `{name}`"):
    """A setting or argument that does not exist."""


class UnknownAlternative(Diagnostic, code="E0205", template="`{name}` is no {sub_block} alternative"):
    """An alternative that does not exist for this sub-block."""


class UnknownAttribute(Diagnostic, code="E0206", template="{thing} has no `{name}`"):
    """An attribute that does not exist, such as `llama.layer` or `chat.memry`."""


class DuplicateKey(Diagnostic, code="E0208", template="`{name}` is set twice"):
    """A setting, argument or objective given twice."""

    help_template = "keep one of them"


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

    help_template = "{chain}"


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


class MistakenKind(Diagnostic, code="E0222"):
    """A declaration whose kind does not match its content."""

    template = "`{name}` is declared as {got} but written like {like}"
