"""The commands: serve, render, live, packs, train, doctor."""
