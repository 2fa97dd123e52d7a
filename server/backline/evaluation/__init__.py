"""Plays packs and judges what they play, for `backline evaluate`."""
