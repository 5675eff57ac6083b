"""Signature help: the arguments of the call being written and the active one."""

from __future__ import annotations

from collections.abc import Mapping

from lsprotocol import types

from puzzledsl.base.settings import Setting
from puzzledsl.server.cursor import cursor_at
from puzzledsl.server.document import Document
from puzzledsl.server.slots import arguments_of, scope_at, setting_at


def signature(document: Document, line: int, column: int) -> types.SignatureHelp | None:
    """Return the signature of the innermost call at a position; None outside calls."""
    cursor = cursor_at(document, line, column)
    scope = scope_at(document, cursor)
    setting = setting_at(cursor, scope)
    shown: types.SignatureHelp | None = None
    for call in cursor.calls:
        arguments, inner = arguments_of(call, scope, setting)
        if call.opener.type == "LPAR" and call.callee:
            shown = _help("".join(call.callee), arguments, *call.argument) if arguments else None
        setting = inner
    return shown


def _help(callee: str, arguments: Mapping[str, Setting], name: str | None, place: int) -> types.SignatureHelp:
    """Return the signature of a call; the active argument is the one named `name`, else the one at index `place`."""
    names = list(arguments)
    active = names.index(name) if name in names else min(place, len(names) - 1)
    parameters = [types.ParameterInformation(n, s.doc or None) for n, s in arguments.items()]
    label = f"{callee}({', '.join(names)})"
    return types.SignatureHelp([types.SignatureInformation(label, parameters=parameters)], 0, active)
