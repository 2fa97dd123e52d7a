"""Strangers for a server: seeded cases of bad input, who sends them, and who plays on beside them undisturbed."""
