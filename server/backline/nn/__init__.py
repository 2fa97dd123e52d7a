"""Streaming building blocks that declare what they cost."""
