"""Diagnostics of measurement, here and in engines, and of a `measured(...)` hardware that does not match this machine."""

from puzzledsl.base.diagnostics import Mistake

NoWorkload = Mistake(
    "E1811",
    "scenario `{scenario}` does not fit on hardware `{hardware}`, not even one sequence of it",
    "give the hardware more memory, or shorten the prompt",
)
BusyMachine = Mistake(
    "W1813",
    "scenario `{scenario}`, batch {batch}: the parent's {phase} varied by {spread} between rounds",
    "measure again when the machine is quiet: `pzl measure {file} --again`",
)
NoSuchDevice = Mistake(
    "E1801",
    "hardware `{name}` is measured on `{device}`, which this machine does not have",
    'devices here: {devices}; for another machine\'s figures use a profile or `table("costs.csv")`',
)
EngineAbsent = Mistake(
    "E1804",
    "hardware `{name}` is measured in {engine}, which is not installed",
    "{install}; `measured(engine: torch)` needs nothing else",
)
EngineFailed = Mistake(
    "E1805",
    "{engine} failed while it timed {what}: {reason}",
    "run it again to go on from here; a smaller batch, or a shorter prompt, needs less memory",
)
NoServer = Mistake("E1815", "no engine serves scenario `{name}`")
NotServed = Mistake(
    "E1816",
    "traffic of `{name}` was not served: {reason}",
    "fewer sequences (`at_most`), a lower rate (`--shares 30%`) or shorter requests may do",
)
