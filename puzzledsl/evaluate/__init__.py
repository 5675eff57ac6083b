"""Parent and children side by side: divergence, perplexity, tasks, speed."""
