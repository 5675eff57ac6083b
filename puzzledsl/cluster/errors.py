"""Diagnostics of running work on other machines."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class RayNotInstalled(Diagnostic):
    """`--on` needs the package Ray, which is not installed.

    Ray is not among the packages that pzl requires.

    Wrong:
        $ pzl run wide.pzl --on local       # without the package `ray`
    Right:
        $ pip install 'puzzledsl[ray]'
    """

    code = "E1421"
    template = "`--on {on}` needs the Python package `ray`, which is not installed"
    help_template = (
        "`pip install 'puzzledsl[ray]'` here and on every machine of the cluster, or leave out `--on`"
    )


class ClusterNotReached(Diagnostic):
    """No Ray cluster answers at the address given by `--on`.

    `local` starts one on this machine; `ray://HOST:10001` is a cluster's client port; `auto` is the cluster that this
    machine is a part of.

    Wrong:
        $ pzl run wide.pzl --on gpu-head
    Right:
        $ pzl run wide.pzl --on ray://gpu-head:10001
    """

    code = "E1422"
    template = "no Ray cluster answers at `{on}`: {reason}"
    help_template = "`--on local`, `--on auto` inside a cluster, or `--on ray://HOST:10001`"


class NoWorkers(Diagnostic):
    """The cluster has neither a free GPU nor a free CPU.

    A worker takes a GPU, or a CPU if the cluster has no GPUs. Workers that others use are not free.

    Wrong:
        $ ray start --head --num-cpus 0
    Right:
        $ ray start --head
    """

    code = "E1423"
    template = "the Ray cluster at `{on}` has no free worker"
    help_template = (
        "start workers with `ray start --address HEAD:6379`, then run again: what is finished is kept"
    )


class WorkersKeepDying(Diagnostic):
    """Workers failed repeatedly without progress in between.

    A worker that dies, runs out of memory or meets a CUDA error is replaced, and the work continues from what is
    finished or saved. If this does not help, all workers probably fail for the same reason.

    Wrong:
        $ ray start --address gpu-head:6379 --memory 1000000000       # too little for one layer and its pieces
    Right:
        $ ray start --address gpu-head:6379
    """

    code = "E1424"
    template = "workers of `{on}` died {count} times without progress: {reason}"
    help_template = (
        "most often memory: give workers more, or the cluster more workers; what is finished is kept"
    )


class PiecesDontFit(Diagnostic):
    """One piece for each layer of a worker exceeds its memory.

    A worker holds its layers of the parent and, for each piece in training, 16 bytes per weight (on a CPU 24). With more
    workers each holds fewer layers; pieces that do not fit together are trained in several passes.

    Wrong:
        $ pzl run wide.pzl --on auto        # a cluster of 2 GPUs for a 405B parent
    Right:
        $ pzl run wide.pzl --on auto        # a cluster of 64
    """

    code = "E1425"
    template = "a worker of `{on}` has {room}, and needs {needed} to train one piece of one layer"
    help_template = "give the cluster more workers, or workers more memory; or leave the largest alternatives out of the space"
