"""Diagnostics of running work on other machines."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class RayNotInstalled(Diagnostic, code="E1421"):
    """`--on` needs the package Ray, which is not installed."""

    template = "`--on {on}` needs the Python package `ray`, which is not installed"
    help_template = (
        "`pip install 'puzzledsl[ray]'` here and on every machine of the cluster, or leave out `--on`"
    )


class ClusterNotReached(Diagnostic, code="E1422", template="no Ray cluster answers at `{on}`: {reason}"):
    """No Ray cluster answers at the address given by `--on`."""

    help_template = "`--on local`, `--on auto` inside a cluster, or `--on ray://HOST:10001`"


class NoWorkers(Diagnostic, code="E1423", template="the Ray cluster at `{on}` has no free worker"):
    """The cluster has neither a free GPU nor a free CPU."""

    help_template = (
        "start workers with `ray start --address HEAD:6379`, then run again: what is finished is kept"
    )


class WorkersKeepDying(Diagnostic, code="E1424"):
    """Workers failed repeatedly without progress in between."""

    template = "workers of `{on}` died {count} times without progress: {reason}"
    help_template = (
        "most often memory: give workers more, or the cluster more workers; what is finished is kept"
    )


class PiecesDontFit(Diagnostic, code="E1425"):
    """One piece for each layer of a worker exceeds its memory."""

    template = "a worker of `{on}` has {room}, and needs {needed} to train one piece of one layer"
    help_template = "give the cluster more workers, or workers more memory; or leave the largest alternatives out of the space"
