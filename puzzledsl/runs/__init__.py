"""The stage graph: what there is to do, what is done, what is stale. Torch is imported only inside a stage that needs it."""
