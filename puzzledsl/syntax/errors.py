"""Diagnostics of the front end: E00xx for the structure of the text, E01xx for words and literals."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnexpectedToken(Diagnostic, code="E0001", template="unexpected {found}"):
    """A token that the grammar does not allow here."""


class Unclosed(Diagnostic, code="E0002", template="`{opener}` is never closed"):
    """A bracket or brace that is never closed."""

    help_template = "write `{closer}` here"


class StrayCloser(Diagnostic, code="E0003", template="no `{opener}` for this `{closer}`"):
    """A closing bracket or brace without an opening one."""


class MismatchedCloser(Diagnostic, code="E0004", template="`{opener}` is closed by `{closer}`"):
    """A bracket closed by another kind, such as `(` by `]`."""

    help_template = "write `{wanted}`"


class UnknownCharacter(Diagnostic, code="E0005", template="unknown character{plural} `{text}`"):
    """A character that has no meaning in the language."""


class ForeignSpelling(Diagnostic, code="E0006", template="`{text}` is not used in this language"):
    """Another language's spelling of a construct that exists here."""

    help_template = "{wanted}"


class UnterminatedString(Diagnostic, code="E0007", template="this string is never closed"):
    """A string whose line ends before its closing quote."""

    help_template = 'a string ends with `"` on the line it begins on'


class BadEscape(Diagnostic, code="E0008", template="unknown escape `{escape}` in a string"):
    """An unknown backslash escape in a string."""

    help_template = 'escapes are `\\"` `\\\\` `\\n` `\\t` `\\r`; a backslash itself is `\\\\`'


class MissingBrace(Diagnostic, code="E0009", template="expected `{{` before the body"):
    """A body without its opening brace."""

    help_template = "write `{{` at the end of this line"


class BodyEndsEarly(Diagnostic, code="E0010", template="this `}}` ends the body too early"):
    """A superfluous `}` that closes the body before its last statements."""

    help_template = "remove this `}}`, or move it behind the last statement"


class OutsideBody(Diagnostic, code="E0011", template="{found} is outside any body"):
    """A statement at the top level of the file."""


class TooDeep(Diagnostic, code="E0012", template="nested more than {limit} levels deep"):
    """Expressions or brackets nested too deeply."""

    help_template = "name a part of it with `let`"


class TooManyMistakes(Diagnostic, code="E0013"):
    """More mistakes than are reported."""

    template = "more than {limit} mistakes: what follows is not shown"


class FileTooLarge(Diagnostic, code="E0014", template="`{path}` is too large: a file may have up to {limit}"):
    """A file that is too large to be a program."""

    help_template = "split it, and join the parts with `use`"


class NotUtf8(Diagnostic, code="E0015", template="`{path}` is not UTF-8 text (byte {offset})"):
    """Bytes that are not UTF-8 text."""

    help_template = "save the file as UTF-8"


class CannotRead(Diagnostic, code="E0016", template="cannot read `{path}`: {why}"):
    """A file that is missing, is a folder, or cannot be read."""


class UnknownKind(Diagnostic, code="E0101", template="unknown declaration `{got}`"):
    """A declaration that begins with no known kind."""


class UnknownStatement(Diagnostic, code="E0102", template="unknown statement `{got}`"):
    """A statement that begins with a misspelt keyword."""


class BadNumber(Diagnostic, code="E0103", template="{why}"):
    """A number that is out of range or whose unit does not exist."""


class EqualsForColon(Diagnostic, code="E0104", template="a named argument takes `:`, not `=`"):
    """`=` between the name and the value of an argument, as in `gqa(kv_heads = 8)`."""

    help_template = "write `{name}: …`"


class ReservedWord(Diagnostic, code="E0105", template="`{word}` is a keyword and cannot be a name"):
    """A keyword where a name is needed."""

    help_template = "choose another name, such as `{word}_`"


class DeclarationInside(Diagnostic, code="E0106"):
    """`search … { … data mix = … }`."""

    template = "a `{kind}` declaration cannot stand inside a body"
    help_template = "declarations stand at the left margin, outside all braces"
