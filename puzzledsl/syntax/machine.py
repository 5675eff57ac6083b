"""The LALR automaton with lookahead and rollback, which error recovery needs and Lark does not offer."""

from __future__ import annotations

from puzzledsl.syntax.grammar import grammar
from puzzledsl.syntax.lark_alone import Shift, Token, Tree


class Machine:
    """One run of the automaton. Depths count states: depth 1 is the start state alone."""

    def __init__(self) -> None:
        self._session = grammar().parse_interactive("", start="start")
        state = self._session.parser_state
        self._states, self._values = state.state_stack, state.value_stack
        self._table, self._end = state.parse_conf.states, state.parse_conf.end_state

    @property
    def depth(self) -> int:
        """The number of states on the stack."""
        return len(self._states)

    def accepts(self, *kinds: str, depth: int | None = None) -> bool:
        """Return True if tokens of these kinds are acceptable next, here or after `pop_to(depth)`.

        The stack is not copied: the trial keeps the first `base` states and stacks new ones in `above`.
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
        """Return False if the state at `depth` certainly refuses `kind`: a cheap test before `accepts`."""
        return kind in self._table[self._states[depth - 1]]

    def expected(self) -> set[str]:
        """Return the kinds of tokens that are acceptable next, without ERROR."""
        state = self._table[self._states[-1]]
        return {k for k in state if k.isupper() and k not in ("ERROR", "$END") and self.accepts(k)}

    def feed(self, token: Token) -> None:
        """Consume one acceptable token."""
        self._session.feed_token(token)

    def pop_to(self, depth: int) -> None:
        """Pop the stack down to `depth`."""
        del self._states[depth:]
        del self._values[depth - 1 :]

    def finish(self) -> Tree[Token]:
        """Return the tree. The end of the file must be acceptable."""
        tree: Tree[Token] = self._session.feed_eof()  # type: ignore[no-untyped-call]
        return tree
