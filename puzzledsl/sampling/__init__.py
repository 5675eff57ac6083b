"""Text that a parent writes: prompts, batches with a KV cache, documents."""
