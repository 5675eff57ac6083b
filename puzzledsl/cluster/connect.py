"""A connection to a Ray cluster that is opened when first needed and shared by all stages of a run."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cluster.errors import ClusterNotReached, RayNotInstalled

PATIENCE_S = 10.0
"""Seconds that a cluster has to accept a connection."""


class Cluster:
    """The Ray cluster `on`: `local` starts one on this machine, `auto` uses the one around it, else an address."""

    def __init__(self, on: str) -> None:
        self.on = on
        self._ray: Any = None
        self._sessions, self._is_own = 0, False

    @contextmanager
    def session(self) -> Iterator[None]:
        """Keep the connection, once opened, until the outermost session ends. A connection opened by others stays open."""
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1
            if self._sessions == 0:
                self._close()

    @property
    def ray(self) -> Any:
        """The package `ray`, connected. Raises DiagnosticError: RayNotInstalled, ClusterNotReached."""
        if self._ray is None:
            self._ray = self._connect()
        return self._ray

    def _connect(self) -> Any:
        try:
            ray = importlib.import_module("ray")
        except ImportError as error:
            raise DiagnosticError(RayNotInstalled(None, on=self.on)) from error
        if ray.is_initialized():
            return ray
        _must_answer(self.on)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here = {"num_cpus": os.cpu_count(), "include_dashboard": False} if self.on == "local" else {}
        try:
            ray.init(address=self.on, log_to_driver=False, logging_level="error", **here)
        except Exception as error:  # Ray raises a bare one where a node does not start in time
            raise DiagnosticError(ClusterNotReached(None, on=self.on, reason=first_line(error))) from error
        self._is_own = True
        return ray

    def _close(self) -> None:
        if self._is_own:
            self._ray.shutdown()
        self._ray, self._is_own = None, False


def _must_answer(on: str) -> None:
    """Raise DiagnosticError (ClusterNotReached) if nothing listens at an address: Ray itself would retry for minutes."""
    host, colon, port = on.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DiagnosticError(ClusterNotReached(None, on=on, reason=reason)) from error


def first_line(error: object) -> str:
    """Return the first line of an error of Ray's, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
