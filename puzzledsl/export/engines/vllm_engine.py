"""Checkpoint directories in vLLM on the CPU (scripts/vllm_env.sh creates its environment)."""

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Engine:
    """One loaded model."""

    logprobs = True

    def __init__(self, path: str, request: dict[str, Any]) -> None:
        import vllm

        self.version = f"vllm {vllm.__version__}"
        self._vllm = vllm
        self._batch = int(request.get("batch", 1))
        self._asked: list[str] = []
        served: dict[str, Any] = {}
        if cache := request.get("cache"):
            served = {"kv_cache_dtype": cache, "kv_cache_dtype_skip_layers": request.get("kept", [])}
        if request.get("serving"):  # all prompts in one step
            together = max(2048, self._batch * request["context"])
            served |= {"max_num_batched_tokens": together, "async_scheduling": False}
        self._llm = vllm.LLM(
            model=path,
            dtype=request["dtype"],
            enforce_eager=True,
            trust_remote_code=True,
            load_format="safetensors",
            max_model_len=request["context"],
            max_num_seqs=max(4, self._batch),
            max_logprobs=-1,
            enable_prefix_caching=False,
            skip_tokenizer_init=True,
            **served,
        )

    def close(self) -> None:
        """Free the model."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()

    def _generate(self, prompt: Sequence[int], steps: int, **options: Any) -> Any:
        params = self._vllm.SamplingParams(
            temperature=0, max_tokens=steps, min_tokens=steps, ignore_eos=True, detokenize=False, **options
        )
        given = {"prompt_token_ids": [int(token) for token in prompt]}
        return self._llm.generate([given], params, use_tqdm=False)[0]

    def greedy(self, prompt: Sequence[int], steps: int) -> tuple[Any, list[int]]:
        """Return the log-probabilities at the prompt's positions (S, V) and the `steps` tokens after it."""
        found = self._generate(prompt, steps, prompt_logprobs=-1, logprobs=-1)
        output = found.outputs[0]
        rows = [*found.prompt_logprobs[1:], output.logprobs[0]]
        table = np.empty((len(rows), len(rows[0])))
        for i, row in enumerate(rows):
            for token, entry in row.items():
                table[i, token] = entry.logprob
        return table, list(output.token_ids)

    def time_prefill(self, prompt: int) -> float:
        """Return the seconds of one prompt of every sequence, from an empty cache."""
        self._ask(prompt, 1)
        start = time.perf_counter()
        self._first_tokens()
        return time.perf_counter() - start

    def fill(self, context: int) -> None:
        """Give every sequence `context` tokens. Steps then go on from there: their context grows by what is timed."""
        self._ask(context, 4096)
        self._first_tokens()

    def time_steps(self, steps: int) -> list[float]:
        """Return the seconds of decode steps after `fill` and the steps timed since."""
        found = []
        for _ in range(steps):
            start = time.perf_counter()
            if len(self._llm.llm_engine.step()) != self._batch:
                raise RuntimeError("a step gave no token to some sequences")
            found.append(time.perf_counter() - start)
        return found

    def _ask(self, tokens: int, output: int) -> None:
        """Drop what runs, then ask for `output` tokens after each of the batch's prompts."""
        engine = self._llm.llm_engine
        if self._asked:
            engine.abort_request(self._asked)
            engine.step()
        params = self._vllm.SamplingParams(
            temperature=0, max_tokens=output, min_tokens=output, ignore_eos=True, detokenize=False
        )
        self._count = getattr(self, "_count", 0) + 1
        self._asked = [f"{self._count}.{row}" for row in range(self._batch)]
        for row, name in enumerate(self._asked):
            ids = [(7 + 13 * i * i + row) % 251 for i in range(tokens)]
            engine.add_request(name, {"prompt_token_ids": ids}, params)

    def _first_tokens(self) -> None:
        """Run steps until every sequence has its first token."""
        begun: set[str] = set()
        while len(begun) < self._batch:
            begun |= {found.request_id for found in self._llm.llm_engine.step() if found.outputs[0].token_ids}
