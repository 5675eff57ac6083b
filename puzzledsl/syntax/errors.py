"""Diagnostics of the front end: E00xx for the structure of the text, E01xx for words and literals."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnexpectedToken(Diagnostic, code="E0001"):
    """A token that the grammar does not allow here."""

    template = "unexpected {found}"


class Unclosed(Diagnostic, code="E0002"):
    """A bracket or brace that is never closed."""

    template = "`{opener}` is never closed"
    help_template = "write `{closer}` here"


class StrayCloser(Diagnostic, code="E0003"):
    """A closing bracket or brace without an opening one."""

    template = "no `{opener}` for this `{closer}`"


class MismatchedCloser(Diagnostic, code="E0004"):
    """A bracket closed by another kind, such as `(` by `]`."""

    template = "`{opener}` is closed by `{closer}`"
    help_template = "write `{wanted}`"


class UnknownCharacter(Diagnostic, code="E0005"):
    """A character that has no meaning in the language."""

    template = "unknown character{plural} `{text}`"


class ForeignSpelling(Diagnostic, code="E0006"):
    """Another language's spelling of a construct that exists here."""

    template = "`{text}` is not used in this language"
    help_template = "{wanted}"


class UnterminatedString(Diagnostic, code="E0007"):
    """A string whose line ends before its closing quote."""

    template = "this string is never closed"
    help_template = 'a string ends with `"` on the line it begins on'


class BadEscape(Diagnostic, code="E0008"):
    """An unknown backslash escape in a string."""

    template = "unknown escape `{escape}` in a string"
    help_template = 'escapes are `\\"` `\\\\` `\\n` `\\t` `\\r`; a backslash itself is `\\\\`'


class MissingBrace(Diagnostic, code="E0009"):
    """A body without its opening brace."""

    template = "expected `{{` before the body"
    help_template = "write `{{` at the end of this line"


class BodyEndsEarly(Diagnostic, code="E0010"):
    """A superfluous `}` that closes the body before its last statements."""

    template = "this `}}` ends the body too early"
    help_template = "remove this `}}`, or move it behind the last statement"


class OutsideBody(Diagnostic, code="E0011"):
    """A statement at the top level of the file."""

    template = "{found} is outside any body"


class TooDeep(Diagnostic, code="E0012"):
    """Expressions or brackets nested too deeply."""

    template = "nested more than {limit} levels deep"
    help_template = "name a part of it with `let`"


class TooManyMistakes(Diagnostic, code="E0013"):
    """More mistakes than are reported."""

    template = "more than {limit} mistakes: what follows is not shown"


class FileTooLarge(Diagnostic, code="E0014"):
    """A file that is too large to be a program."""

    template = "`{path}` is too large: a file may have up to {limit}"
    help_template = "split it, and join the parts with `use`"


class NotUtf8(Diagnostic, code="E0015"):
    """Bytes that are not UTF-8 text."""

    template = "`{path}` is not UTF-8 text (byte {offset})"
    help_template = "save the file as UTF-8"


class CannotRead(Diagnostic, code="E0016"):
    """A file that is missing, is a folder, or cannot be read."""

    template = "cannot read `{path}`: {why}"


class UnknownKind(Diagnostic, code="E0101"):
    """A declaration that begins with no known kind."""

    template = "unknown declaration `{got}`"


class UnknownStatement(Diagnostic, code="E0102"):
    """A statement that begins with a misspelt keyword."""

    template = "unknown statement `{got}`"


class BadNumber(Diagnostic, code="E0103"):
    """A number that is out of range or whose unit does not exist."""

    template = "{why}"


class EqualsForColon(Diagnostic, code="E0104"):
    """`=` between the name and the value of an argument, as in `gqa(kv_heads = 8)`."""

    template = "a named argument takes `:`, not `=`"
    help_template = "write `{name}: …`"


class ReservedWord(Diagnostic, code="E0105"):
    """A keyword where a name is needed."""

    template = "`{word}` is a keyword and cannot be a name"
    help_template = "choose another name, such as `{word}_`"


class DeclarationInside(Diagnostic, code="E0106"):
    """`search … { … data mix = … }`."""

    template = "a `{kind}` declaration cannot stand inside a body"
    help_template = "declarations stand at the left margin, outside all braces"
