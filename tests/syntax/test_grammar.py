from hypothesis import given
from hypothesis import strategies as st
from lark import Token as LarkToken

from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.tokens import grammar, lex
from scripts.grammar import TABLES, build, tables


def test_the_grammar_has_no_conflict() -> None:
    build(strict=True)


def test_the_tables_are_those_of_the_grammar() -> None:
    assert TABLES.read_text("utf-8") == tables(), "run `python scripts/grammar.py`"


def test_the_keywords_are_those_of_the_grammar() -> None:
    assert set(grammar()["keywords"]) == set(KEYWORDS)


def test_every_text_lexes() -> None:
    text = "\n".join(map(chr, [*range(1, 0x250), 0x2028, 0x1F600]))
    assert "".join(lex(text)).split() == text.replace("\t", "").replace(" ", "").split()


PARSER = build()
PARSER.lexer = PARSER._build_lexer()  # else it builds one for each text
PIECES = """abc 1 4GiB "s" "s \' “x” .. -> |= <= = == ( ) # ## / * ; && same as""".split(" ")


@given(st.lists(st.sampled_from([*KEYWORDS, *PIECES, "\n", "  "])))
def test_words_are_those_that_lark_reads(words: list[str]) -> None:
    def place(token: LarkToken) -> tuple[object, ...]:
        ends = token.end_line, token.end_column, token.end_pos
        return str(token), token.type, token.line, token.column, token.start_pos, *ends

    text = "".join(words)
    assert [place(token) for token in lex(text)] == [place(token) for token in PARSER.lex(text)]  # type: ignore[arg-type]
