"""Sessions, resident models, timeline and latency ledger; knows Stream, never a model by name."""
