"""The server that the client's tests talk to."""

from tests.support.server import address, client

__all__ = ["address", "client"]
