"""Diagnostics of the front end: E00xx for the structure of the text, E01xx for words and literals."""

from puzzledsl.base.diagnostics import Mistake

UnexpectedToken = Mistake("E0001", "unexpected {found}")
Unclosed = Mistake("E0002", "`{opener}` is never closed", "write `{closer}` here")
StrayCloser = Mistake("E0003", "no `{opener}` for this `{closer}`")
MismatchedCloser = Mistake("E0004", "`{opener}` is closed by `{closer}`", "write `{wanted}`")
UnknownCharacter = Mistake("E0005", "unknown character{plural} `{text}`")
ForeignSpelling = Mistake("E0006", "`{text}` is not used in this language", "{wanted}")
UnterminatedString = Mistake(
    "E0007", "this string is never closed", 'a string ends with `"` on the line it begins on'
)
BadEscape = Mistake(
    "E0008",
    "unknown escape `{escape}` in a string",
    'escapes are `\\"` `\\\\` `\\n` `\\t` `\\r`; a backslash itself is `\\\\`',
)
MissingBrace = Mistake("E0009", "expected `{{` before the body", "write `{{` at the end of this line")
BodyEndsEarly = Mistake(
    "E0010", "this `}}` ends the body too early", "remove this `}}`, or move it behind the last statement"
)
OutsideBody = Mistake("E0011", "{found} is outside any body")
TooDeep = Mistake("E0012", "nested more than {limit} levels deep", "name a part of it with `let`")
TooManyMistakes = Mistake("E0013", "more than {limit} mistakes: what follows is not shown")
FileTooLarge = Mistake(
    "E0014", "`{path}` is too large: a file may have up to {limit}", "split it, and join the parts with `use`"
)
NotUtf8 = Mistake("E0015", "`{path}` is not UTF-8 text (byte {offset})", "save the file as UTF-8")
CannotRead = Mistake("E0016", "cannot read `{path}`: {why}")
UnknownKind = Mistake("E0101", "unknown declaration `{got}`")
UnknownStatement = Mistake("E0102", "unknown statement `{got}`")
BadNumber = Mistake("E0103", "{why}")
EqualsForColon = Mistake("E0104", "a named argument takes `:`, not `=`", "write `{name}: …`")
ReservedWord = Mistake(
    "E0105", "`{word}` is a keyword and cannot be a name", "choose another name, such as `{word}_`"
)
DeclarationInside = Mistake(
    "E0106",
    "a `{kind}` declaration cannot stand inside a body",
    "declarations stand at the left margin, outside all braces",
)
