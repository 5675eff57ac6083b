"""Checkpoint directories in transformers, with the model code that they contain. Weights are safetensors, never pickles."""

import inspect
from collections.abc import Sequence
from typing import Any

import transformers
from transformers import AutoModelForCausalLM


class Engine:
    """One loaded model."""

    logprobs = False

    def __init__(self, path: str, request: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(request["threads"])
        log: Any = transformers.utils.logging
        log.set_verbosity_error()
        log.disable_progress_bar()
        self.version = f"transformers {transformers.__version__}"
        self._torch = torch
        loader: Any = AutoModelForCausalLM
        model = loader.from_pretrained(
            path,
            trust_remote_code=True,
            dtype=getattr(torch, request["dtype"]),
            local_files_only=True,
            use_safetensors=True,
        )
        self._model = model.eval()
        self._cache: Any = None
        parameters = inspect.signature(type(self._model).forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"  # renamed in 5.2x

    def close(self) -> None:
        """Free the model."""
        self._model = self._cache = None

    def reset_cache(self) -> None:
        """Start a new KV cache."""
        self._cache = None

    def forward(self, tokens: Sequence[int]) -> Any:
        """Return the logits (S, V) of tokens that follow those in the cache."""
        with self._torch.no_grad():
            ids = self._torch.tensor([list(tokens)])
            found = self._model(input_ids=ids, use_cache=True, **{self._cache_name: self._cache})
        self._cache = found[self._cache_name]
        return found.logits[0].float().numpy()
