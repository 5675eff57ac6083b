"""Warnings: legal but probably unintended. W02xx names, W03xx searches, W04xx spaces."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class UnusedName(Diagnostic):
    """A name that is never used.

    The warning applies to files with a search: declarations for other files belong in files without one. A name that
    begins with `_` may be unused.

    Wrong:
        param headroom: Ratio = 95%
        search s of w { minimize kl, require chat.memory <= 90% * h.memory }
    Right:
        param headroom: Ratio = 95%
        search s of w { minimize kl, require chat.memory <= headroom * h.memory }
    """

    code = "W0201"
    severity = "warning"
    template = "{kind} `{name}` is never used"
    help_template = "use it, remove it, or call it `_{name}`"


class UnusedImport(Diagnostic):
    """A name that is imported by `use` and never used.

    Readers look at a file's imports first; unused ones mislead them.

    Wrong:
        use "std/hardware.pzl" (h100_sxm, a100)
        hardware card = h100_sxm(dtype: fp8)
        scenario talk on card = batch(1, 64 -> 64)
        search s of w { maximize talk.throughput }
    Right:
        use "std/hardware.pzl" (h100_sxm)
        hardware card = h100_sxm(dtype: fp8)
        scenario talk on card = batch(1, 64 -> 64)
        search s of w { maximize talk.throughput }
    """

    code = "W0202"
    severity = "warning"
    template = "`{name}` of `{path}` is never used"
    help_template = "leave it out"


class Shadowing(Diagnostic):
    """A name that hides another visible name.

    The inner name takes precedence silently; usually one of the two should have another name.

    Wrong:
        let limit = 8GiB
        search s of w { minimize kl, let limit = 4GiB, require chat.memory <= limit }
        assert limit > 1GiB
    Right:
        let limit = 8GiB
        search s of w { minimize kl, let half = limit / 2, require chat.memory <= half }
        assert limit > 1GiB
    """

    code = "W0203"
    severity = "warning"
    template = "`{name}` hides {what}"
    help_template = "give one of them another name"


class AlwaysHolds(Diagnostic):
    """A requirement that every child of the space meets.

    Sizes are known before costs and scores, so a bound without effect is found when the program is checked. It is
    often a mistake in a unit or in the direction of the comparison.

    Wrong:
        search s of w { minimize kl, require count(attention is noop) <= 8 }
    Right:
        search s of w { minimize kl, require count(attention is noop) <= 2 }
    """

    code = "W0301"
    severity = "warning"
    template = "every child of `{space}` meets this: {bound}"
    help_template = "{help}"


class NeverHolds(Diagnostic):
    """A requirement that no child of the space meets.

    The search has no solution, independent of scores and costs.

    Wrong:
        search s of w { minimize kl, require sum(ffn.width) >= 5 * p.intermediate }
    Right:
        search s of w { minimize kl, require sum(ffn.width) >= 2 * p.intermediate }
    """

    code = "W0302"
    severity = "warning"
    template = "no child of `{space}` meets this: {bound}"
    help_template = "{help}"


class ExcludeEachOther(Diagnostic):
    """Two bounds on the same quantity that no child can meet together.

    Each bound can be met, but not both by the same child, so the search has no solution.

    Wrong:
        search s of w { minimize kl, require 8s <= chat.latency <= 4s }
    Right:
        search s of w { minimize kl, require 4s <= chat.latency <= 8s }
    """

    code = "W0303"
    severity = "warning"
    template = "no child of `{space}` meets both this bound and another bound on the same quantity"
    help_template = "together they ask for {low} and {high}: change one of the two"


class WrongWayRound(Diagnostic):
    """A bound in the wrong direction, which the parent meets and better children violate.

    More throughput is better, and so is less memory, time or parameters. A bound such as `throughput <= 1.7x`
    excludes better children and allows the parent; usually the opposite comparison is intended.

    Wrong:
        search s of w { minimize kl, require chat.throughput <= 1.7x }
    Right:
        search s of w { minimize kl, require chat.throughput >= 1.7x }
    """

    code = "W0304"
    severity = "warning"
    template = "`{bound}` excludes only children that are better than the parent"
    help_template = "{direction} of `{what}` is better: write `{instead}`"


class WindowUnseen(Diagnostic):
    """A score on short texts that cannot see the loss caused by a window.

    A window hides older tokens. A score that compares only the first tokens of a text measures little or nothing of
    this loss, so the search treats the window as free.

    Wrong:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { attention = parent | gqa(kv_heads: 8, window: 1Ki, sinks: 4) }
        bld pieces of v { tokens = 0, context = 1Ki }
        scenario long on h = batch(1, 6Ki -> 2Ki)
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require long.memory <= 8GiB }
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { attention = parent | gqa(kv_heads: 8, window: 1Ki, sinks: 4) }
        bld pieces of v { tokens = 0, context = 8Ki }
        scenario long on h = batch(1, 6Ki -> 2Ki)
        score real of pieces = replace_one(kl_divergence, samples: 8Ki)
        search s of v { minimize real, require long.memory <= 8GiB }
    """

    code = "W0305"
    severity = "warning"
    template = "`{score}` judges windows of {windows} tokens on texts of {seen:,}, and `{scenario}` goes up to {length:,}"
    help_template = "write `context = {length}` in `{bld}`, and `samples: {length}` or more here"


class FewTokensAnExpert(Diagnostic):
    """A calibration text that gives an expert fewer tokens than the expert has channels.

    Each expert is fitted to the tokens that the router sends to it: of `experts`, a token uses `top_k`. With few tokens the fit
    is damped, which leaves the expert near the parent's weights, and the smaller mixture is worse than it could be.

    Wrong:
        parent q = shape(family: qwen3_moe, layers: 4, hidden: 64, heads: 8, kv_heads: 2, head_dim: 8, intermediate: 192,
            vocab: 256, experts: 64, top_k: 2, expert_width: 96)
        space v of q { ffn = parent | moe(experts: 32) }
        bld pieces of v { tokens = 0, calibration = 2Ki }
    Right:
        parent q = shape(family: qwen3_moe, layers: 4, hidden: 64, heads: 8, kv_heads: 2, head_dim: 8, intermediate: 192,
            vocab: 256, experts: 64, top_k: 2, expert_width: 96)
        space v of q { ffn = parent | moe(experts: 32) }
        bld pieces of v { tokens = 0, calibration = 4Ki }
    """

    code = "W0306"
    severity = "warning"
    template = "an expert sees about {seen:,} of {calibration:,} calibration tokens, and has {width:,} channels to fit"
    help_template = "write `calibration = {needed}` or more"


class SameAlternative(Diagnostic):
    """An alternative that the choice already contains.

    Widths round to the same number, the key/value heads equal the parent's, or the same alternative is written twice.

    Wrong:
        space v of p { attention = parent | gqa(kv_heads: 4 | 2) }
    Right:
        space v of p { attention = parent | gqa(kv_heads: 2) }
    """

    code = "W0401"
    severity = "warning"
    template = "this choice has `{name}` twice"
    help_template = "{help}"
