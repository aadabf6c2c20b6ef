"""One page about a run: its figures, what was found, and how it is shown."""
