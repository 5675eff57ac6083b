"""The LALR automaton, with the two things recovery needs and Lark does not offer: looking ahead and going back."""

from __future__ import annotations

from lark import Token, Tree
from lark.parsers.lalr_analysis import Shift

from puzzledsl.lang.grammar import grammar


class Machine:
    """One run of the automaton. Depths count states: a depth of 1 is the start state alone."""

    def __init__(self) -> None:
        self._session = grammar().parse_interactive("", start="start")
        state = self._session.parser_state
        self._states, self._values = state.state_stack, state.value_stack
        self._table, self._end = state.parse_conf.states, state.parse_conf.end_state

    @property
    def depth(self) -> int:
        """How many states are stacked."""
        return len(self._states)

    def accepts(self, *kinds: str, depth: int | None = None) -> bool:
        """True when tokens of these kinds could come next, here or after `pop_to(depth)`.

        The stack is not copied: `above` are the states the trial has stacked on its first `base` ones.
        """
        base = self.depth if depth is None else depth
        above: list[object] = []
        for kind in kinds:
            while True:
                entry = self._table[above[-1] if above else self._states[base - 1]].get(kind)
                if entry is None:
                    return False
                action, argument = entry
                if action is Shift:
                    above.append(argument)
                    break
                size = len(argument.expansion)
                from_above = min(size, len(above))
                del above[len(above) - from_above :]
                base -= size - from_above
                below = above[-1] if above else self._states[base - 1]
                above.append(self._table[below][argument.origin.name][1])
                if above[-1] == self._end:
                    return True
        return True

    def may_take(self, kind: str, depth: int) -> bool:
        """False when the state at `depth` surely refuses `kind`: a cheap test before `accepts`."""
        return kind in self._table[self._states[depth - 1]]

    def expected(self) -> set[str]:
        """The kinds of token that could come next, ERROR aside."""
        state = self._table[self._states[-1]]
        return {k for k in state if k.isupper() and k not in ("ERROR", "$END") and self.accepts(k)}

    def feed(self, token: Token) -> None:
        """Take one acceptable token."""
        self._session.feed_token(token)

    def pop_to(self, depth: int) -> None:
        """Forget everything stacked beyond `depth`."""
        del self._states[depth:]
        del self._values[depth - 1 :]

    def finish(self) -> Tree[Token]:
        """The tree, once the end of the file is acceptable."""
        tree: Tree[Token] = self._session.feed_eof()  # type: ignore[no-untyped-call]
        return tree
