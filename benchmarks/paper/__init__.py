"""The paper in miniature: every table and figure of Puzzle (arXiv 2411.19146) on SmolLM2-135M, `python -m benchmarks.paper`."""
