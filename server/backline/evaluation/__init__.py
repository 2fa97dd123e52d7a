"""Measures what packs play: figures with known answers, for `backline evaluate`."""
