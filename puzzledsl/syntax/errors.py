"""Diagnostics of the front end: E00xx for the structure of the text, E01xx for words and literals."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic

# ---------------------------------------------------------------- the shape of the text


class UnexpectedToken(Diagnostic):
    """A token that the grammar does not allow here.

    The label shows what is allowed. The mistake is often just before it: a missing operator, comma or value.

    Wrong:
        search s of w { minimize kl require params <= 90% * p.params }
    Right:
        search s of w { minimize kl, require params <= 90% * p.params }
    """

    code = "E0001"
    template = "unexpected {found}"


class Unclosed(Diagnostic):
    """A bracket or brace that is never closed.

    The first label shows where the closer is missing, the second the opening bracket. Parsing continues as if the
    closer were there.

    Wrong:
        let half = mlp(width: 50%
        let other = 3
    Right:
        let half = mlp(width: 50%)
        let other = 3
    """

    code = "E0002"
    template = "`{opener}` is never closed"
    help_template = "write `{closer}` here"


class StrayCloser(Diagnostic):
    """A closing bracket or brace without an opening one.

    Either the opener was deleted, or there is one closer too many.

    Wrong:
        let most = 95%)
    Right:
        let most = 95%
    """

    code = "E0003"
    template = "no `{opener}` for this `{closer}`"


class MismatchedCloser(Diagnostic):
    """A bracket closed by another kind, such as `(` by `]`.

    Brackets close in the reverse order of opening: `(` with `)`, `[` with `]`.

    Wrong:
        let half = mlp(width: 50%]
    Right:
        let half = mlp(width: 50%)
    """

    code = "E0004"
    template = "`{opener}` is closed by `{closer}`"
    help_template = "write `{wanted}`"


class UnknownCharacter(Diagnostic):
    """A character that has no meaning in the language.

    Outside strings and comments, programs consist of letters, digits and the language's own signs.

    Wrong:
        let most = 95% $
    Right:
        let most = 95%
    """

    code = "E0005"
    template = "unknown character{plural} `{text}`"


class ForeignSpelling(Diagnostic):
    """Another language's spelling of a construct that exists here.

    Some words and signs of other languages are recognised, so that the message can give the spelling of this
    language. `pzl check --fix` rewrites them.

    Wrong:
        assert p.layers == 4 && p.heads == 8
    Right:
        assert p.layers == 4 and p.heads == 8
    """

    code = "E0006"
    template = "`{text}` is not used in this language"
    help_template = "{wanted}"


class UnterminatedString(Diagnostic):
    """A string whose line ends before its closing quote.

    A string begins and ends on one line.

    Wrong:
        score other of w = table("kl.csv)
    Right:
        score other of w = table("kl.csv")
    """

    code = "E0007"
    template = "this string is never closed"
    help_template = 'a string ends with `"` on the line it begins on'


class BadEscape(Diagnostic):
    r"""An unknown backslash escape in a string.

    A backslash in a string begins an escape. Paths are written with `/` on every system.

    Wrong:
        score other of w = table("tables\kl.csv")
    Right:
        score other of w = table("tables/kl.csv")
    """

    code = "E0008"
    template = "unknown escape `{escape}` in a string"
    help_template = 'escapes are `\\"` `\\\\` `\\n` `\\t` `\\r`; a backslash itself is `\\\\`'


class MissingBrace(Diagnostic):
    """A body without its opening brace.

    The statements of a declaration stand in braces.

    Wrong:
        search s of w
          minimize kl
        }
    Right:
        search s of w {
          minimize kl
        }
    """

    code = "E0009"
    template = "expected `{{` before the body"
    help_template = "write `{{` at the end of this line"


class BodyEndsEarly(Diagnostic):
    """A superfluous `}` that closes the body before its last statements.

    The statements that follow belong to the body that this brace has closed.

    Wrong:
        search s of w {
          minimize kl }
          require params <= 90% * p.params
        }
    Right:
        search s of w {
          minimize kl
          require params <= 90% * p.params
        }
    """

    code = "E0010"
    template = "this `}}` ends the body too early"
    help_template = "remove this `}}`, or move it behind the last statement"


class OutsideBody(Diagnostic):
    """A statement at the top level of the file.

    Only declarations are allowed at the left margin; `minimize`, `require` and settings belong in a body.

    Wrong:
        minimize kl
    Right:
        search s of w { minimize kl }
    """

    code = "E0011"
    template = "{found} is outside any body"


class TooDeep(Diagnostic):
    """Expressions or brackets nested too deeply.

    They can be nested about a hundred levels deep: more would exhaust the stack of later stages.

    Wrong:
        let deep = ((((((((((1))))))))))     # and ninety levels more
    Right:
        let inner = 1 + 1
        let deep = 2 * inner
    """

    code = "E0012"
    template = "nested more than {limit} levels deep"
    help_template = "name a part of it with `let`"


class TooManyMistakes(Diagnostic):
    """More mistakes than are reported.

    After a hundred mistakes the others are not shown: either one early mistake caused them, or the file is not a
    program.

    Wrong:
        # a file of another kind, such as a log or an archive
    Right:
        search s of w { minimize kl }
    """

    code = "E0013"
    template = "more than {limit} mistakes: what follows is not shown"


class FileTooLarge(Diagnostic):
    """A file that is too large to be a program.

    A program has at most a mebibyte of text and 40,000 tokens.

    Wrong:
        # a generated file with every layer of every model written out
    Right:
        use "std/spaces.pzl" (puzzle_ffn)
    """

    code = "E0014"
    template = "`{path}` is too large: a file may have up to {limit}"
    help_template = "split it, and join the parts with `use`"


class NotUtf8(Diagnostic):
    """Bytes that are not UTF-8 text.

    Programs are UTF-8 text; the message gives the position of the first invalid byte.

    Wrong:
        # saved as UTF-16, or a binary file
    Right:
        # saved as UTF-8
    """

    code = "E0015"
    template = "`{path}` is not UTF-8 text (byte {offset})"
    help_template = "save the file as UTF-8"


class CannotRead(Diagnostic):
    """A file that is missing, is a folder, or cannot be read.

    The path leads to no file, to a folder, or to a file without read permission.

    Wrong:
        $ pzl check wide
    Right:
        $ pzl check wide.pzl
    """

    code = "E0016"
    template = "cannot read `{path}`: {why}"


# ---------------------------------------------------------------- words and literals


class UnknownKind(Diagnostic):
    """A declaration that begins with no known kind.

    Every declaration begins with its kind: parent, data, hardware, scenario, space, bld, score, search,
    frontier, uptrain, eval or export; or with use, param, let, fn or assert.

    Wrong:
        serch s of w { minimize kl }
    Right:
        search s of w { minimize kl }
    """

    code = "E0101"
    template = "unknown declaration `{got}`"


class UnknownStatement(Diagnostic):
    """A statement that begins with a misspelt keyword.

    A body holds settings (`name = value`) and statements that begin with a keyword.

    Wrong:
        search s of w { minimise kl }
    Right:
        search s of w { minimize kl }
    """

    code = "E0102"
    template = "unknown statement `{got}`"


class BadNumber(Diagnostic):
    """A number that is out of range or whose unit does not exist.

    A number may carry a unit, without a blank between them, and letters count: `GiB`, `GB`, `ms`,
    `TFLOP/s`, `tok/s`, `k`, `M`, `B`, `Ki`. Values are exact, so they are bounded too.

    Wrong:
        search s of w { minimize kl, require chat.memory <= 80Gib }
    Right:
        search s of w { minimize kl, require chat.memory <= 80GiB }
    """

    code = "E0103"
    template = "{why}"


class EqualsForColon(Diagnostic):
    """`=` between the name and the value of an argument, as in `gqa(kv_heads = 8)`.

    In a call, a name and its value are joined by `:`; `=` is for settings in a body and for declarations.

    Wrong:
        let half = mlp(width = 50%)
    Right:
        let half = mlp(width: 50%)
    """

    code = "E0104"
    template = "a named argument takes `:`, not `=`"
    help_template = "write `{name}: …`"


class ReservedWord(Diagnostic):
    """A keyword where a name is needed.

    Keywords are reserved everywhere, so they cannot be names.

    Wrong:
        let where = 3
    Right:
        let place = 3
    """

    code = "E0105"
    template = "`{word}` is a keyword and cannot be a name"
    help_template = "choose another name, such as `{word}_`"


class DeclarationInside(Diagnostic):
    """`search … { … data mix = … }`.

    Declarations do not nest. A value for one body alone is a `let` inside it.

    Wrong:
        search s of w {
          minimize kl
          param most: Ratio = 90%
        }
    Right:
        param most: Ratio = 90%
        search s of w { minimize kl }
    """

    code = "E0106"
    template = "a `{kind}` declaration cannot stand inside a body"
    help_template = "declarations stand at the left margin, outside all braces"
