"""Parts of a training loop that every network shares; each task keeps its own readable loop."""
