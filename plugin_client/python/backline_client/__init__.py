"""Python client of a Backline server; needs grpcio and numpy, no torch."""
