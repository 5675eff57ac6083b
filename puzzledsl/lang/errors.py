"""The mistakes the front end reports: E00xx about the shape of the text, E01xx about words and literals."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic

# ---------------------------------------------------------------- the shape of the text


class UnexpectedToken(Diagnostic):
    """Something else had to stand here."""

    code = "E0001"
    template = "unexpected {found}"


class Unclosed(Diagnostic):
    """A bracket or brace that nothing closes. Primary: where the closer is missing; secondary: the opener."""

    code = "E0002"
    template = "`{opener}` is never closed"
    help_template = "write `{closer}` here"


class StrayCloser(Diagnostic):
    """A closing bracket or brace without its opener."""

    code = "E0003"
    template = "no `{opener}` for this `{closer}`"


class MismatchedCloser(Diagnostic):
    """`(` closed by `]`."""

    code = "E0004"
    template = "`{opener}` is closed by `{closer}`"
    help_template = "write `{wanted}`"


class UnknownCharacter(Diagnostic):
    """A character that means nothing in the language."""

    code = "E0005"
    template = "unknown character{plural} `{text}`"


class ForeignSpelling(Diagnostic):
    """Another language's spelling of something that exists here."""

    code = "E0006"
    template = "`{text}` is not used in this language"
    help_template = "{wanted}"


class UnterminatedString(Diagnostic):
    """A string whose line ends before its closing quote."""

    code = "E0007"
    template = "this string is never closed"
    help_template = 'a string ends with `"` on the line it begins on'


class BadEscape(Diagnostic):
    """An unknown backslash escape in a string."""

    code = "E0008"
    template = "unknown escape `{escape}` in a string"
    help_template = 'escapes are `\\"` `\\\\` `\\n` `\\t` `\\r`; a backslash itself is `\\\\`'


class MissingBrace(Diagnostic):
    """A body without its opening brace."""

    code = "E0009"
    template = "expected `{{` before the body"
    help_template = "write `{{` at the end of this line"


class BodyEndsEarly(Diagnostic):
    """A `}` too many closed the body before its last statements."""

    code = "E0010"
    template = "this `}}` ends the body too early"
    help_template = "remove this `}}`, or move it behind the last statement"


class OutsideBody(Diagnostic):
    """A statement at the top level of the file."""

    code = "E0011"
    template = "{found} stands outside any body"


class TooDeep(Diagnostic):
    """Nesting no person writes, which would exhaust the stack of later stages."""

    code = "E0012"
    template = "nested more than {limit} levels deep"
    help_template = "name a part of it with `let`"


class TooManyMistakes(Diagnostic):
    """The cap on reports; a binary file would fill the screen."""

    code = "E0013"
    template = "more than {limit} mistakes: what follows is not shown"


class FileTooLarge(Diagnostic):
    """A file that cannot have been meant."""

    code = "E0014"
    template = "`{path}` is too large: a file may have up to {limit}"
    help_template = "split it, and join the parts with `use`"


class NotUtf8(Diagnostic):
    """Bytes that are no UTF-8 text."""

    code = "E0015"
    template = "`{path}` is not UTF-8 text (byte {offset})"
    help_template = "save the file as UTF-8"


class CannotRead(Diagnostic):
    """A file that is missing, a folder, or closed to us."""

    code = "E0016"
    template = "cannot read `{path}`: {why}"


# ---------------------------------------------------------------- words and literals


class UnknownKind(Diagnostic):
    """A declaration that begins with no known kind."""

    code = "E0101"
    template = "unknown declaration `{got}`"


class UnknownStatement(Diagnostic):
    """A statement that begins with a misspelt keyword."""

    code = "E0102"
    template = "unknown statement `{got}`"


class BadNumber(Diagnostic):
    """A number that is out of range or whose unit does not exist."""

    code = "E0103"
    template = "{why}"


class EqualsForColon(Diagnostic):
    """`gqa(kv_heads = 8)`."""

    code = "E0104"
    template = "a named argument takes `:`, not `=`"
    help_template = "write `{name}: …`"


class ReservedWord(Diagnostic):
    """A keyword where a name had to stand."""

    code = "E0105"
    template = "`{word}` is a keyword and cannot be a name"
    help_template = "choose another name, such as `{word}_`"


class DeclarationInside(Diagnostic):
    """`search … { … data mix = … }`."""

    code = "E0106"
    template = "a `{kind}` declaration cannot stand inside a body"
    help_template = "declarations stand at the left margin, outside all braces"
