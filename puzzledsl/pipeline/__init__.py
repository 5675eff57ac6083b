"""The stage graph: tasks with their state, fresh or stale. Torch is imported only inside a stage that needs it."""
