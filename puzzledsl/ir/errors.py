"""Mistakes in names and structure: E02xx. Types are in errors_types.py, spaces and hardware in errors_spaces.py."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class UnknownName(Diagnostic):
    """A name that nothing declares."""

    code = "E0201"
    template = "nothing here is called `{name}`"


class WrongKind(Diagnostic):
    """A name of the wrong kind, such as a bld where a space is needed."""

    code = "E0202"
    template = "`{name}` is {got}, but {wanted} is needed here"


class DuplicateName(Diagnostic):
    """Two declarations of one name."""

    code = "E0203"
    template = "`{name}` is declared twice"
    help_template = "rename one of them"


class UnknownKey(Diagnostic):
    """A setting or argument that does not exist."""

    code = "E0204"
    template = "{thing} has no setting `{name}`"


class UnknownAlternative(Diagnostic):
    """Something a sub-block cannot become."""

    code = "E0205"
    template = "`{name}` is no {sub_block} alternative"


class UnknownAttribute(Diagnostic):
    """`llama.layer`, `chat.memry`."""

    code = "E0206"
    template = "{thing} has no `{name}`"


class KvHeadsDontDivide(Diagnostic):
    """Grouped-query attention needs equal groups."""

    code = "E0207"
    template = "kv_heads={got} does not divide the parent's {heads} {what} heads"


class DuplicateKey(Diagnostic):
    """A setting, argument or objective given twice."""

    code = "E0208"
    template = "`{name}` is set twice"
    help_template = "keep one of them"


class MissingPart(Diagnostic):
    """A declaration or call that lacks something it needs."""

    code = "E0209"
    template = "{thing} needs {what}"


class TooManyArguments(Diagnostic):
    """More positional arguments than there are places."""

    code = "E0210"
    template = "`{name}` takes {takes}, not {got}"


class NoSuchFile(Diagnostic):
    """A `use` of a file that cannot be found."""

    code = "E0211"
    template = "there is no file `{path}` to use"


class CyclicUse(Diagnostic):
    """Files that use each other."""

    code = "E0212"
    template = "`{path}` uses itself: {chain}"
    help_template = "move what both need into a third file"


class NotDeclaredThere(Diagnostic):
    """A name imported from a file that does not declare it."""

    code = "E0213"
    template = "`{path}` declares no `{name}`"


class CyclicDefinition(Diagnostic):
    """A value or declaration that needs itself."""

    code = "E0214"
    template = "`{name}` is defined by itself"
    help_template = "{chain}"


class Misplaced(Diagnostic):
    """A statement, operator or expression where it has no meaning."""

    code = "E0215"
    template = "{what} has no place in {where}"


class UnknownSetting(Diagnostic):
    """`--set` of a parameter that no file declares."""

    code = "E0216"
    template = "`--set {name}=…`: no parameter is called `{name}`"


class BadSetting(Diagnostic):
    """`--set` of something that is no value."""

    code = "E0217"
    template = "`--set {name}={text}`: `{text}` is no value"
    help_template = "write a value as in the file: `--set {name}=90%`, `--set {name}=80GiB`"


class NoValue(Diagnostic):
    """A parameter without a default that nobody set."""

    code = "E0218"
    template = "parameter `{name}` has no value"
    help_template = "give it with `--set {name}=…`, or a default: `param {name}: {type} = …`"


class UnknownType(Diagnostic):
    """A parameter's type that does not exist."""

    code = "E0219"
    template = "`{name}` is no type"


class TooMuch(Diagnostic):
    """Work beyond what a program can mean: the guard against explosion."""

    code = "E0220"
    template = "{what} is too large: at most {limit}"


class AssertionFails(Diagnostic):
    """A false `assert`."""

    code = "E0221"
    template = "this assertion does not hold"
