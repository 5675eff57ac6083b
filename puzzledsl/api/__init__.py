"""The Python API has the commands' answers as objects: programs, tables, answers, frontiers, regrets and runs.

What `pzl` writes into the build directory, Python reads, and the other way round. `import puzzledsl` loads parts when they
are used; only runs and children load torch.

```python
import puzzledsl as pzl

program = pzl.load("examples/frontier.pzl", build="build/frontier")
answer = program.solve("best")
assert answer.status == "optimal" and answer.gap == 0
print(answer.objective, answer.metrics["chat.throughput"], answer.layers[6])

costs = program.costs("wide").scenarios["chat"][0].attention[12]["gqa1"]
regrets = program.why("best", layer=12).sub_blocks
points = [(p.target, p.result.objective) for p in program.frontier("speed").points]

layers = list(answer.layers)  # a search of your own
layers[6] = ("linear", "noop")
child = program.metrics("best", layers)
print(child.feasible, float(child.objective), child.metrics["chat.memory"])

variations = program.variations("best")  # other requirements, with tables that stay in memory
(speed,) = variations.search.requirements
faster = speed.model_copy(update={"parent_ratio": speed.parent_ratio * 5 / 4})
assert variations.solve([faster]).objective > answer.objective
```

A run makes what is not made yet and hands out children as transformers models:

```python skip="needs the demo's downloads"
run = pzl.load("examples/smollm2/smollm2.pzl").run(progress=True)
model = run.child("final")
```
"""
