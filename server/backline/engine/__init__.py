"""Sessions, scheduler, timeline and latency ledger; knows Stream, never a model by name."""
