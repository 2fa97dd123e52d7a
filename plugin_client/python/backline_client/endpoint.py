"""Where a client's server is and how it is reached: plainly on this machine, over TLS with an access key elsewhere."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from backline_client.unix_socket import socket_path
from backline_client.wire import channel_options

PROBE_SECONDS = 2.0  # that a server has to say whether it speaks TLS, once a plain call has failed


@dataclass(frozen=True)
class Endpoint:
    """A server's address and what is shown to it. TLS is spoken where any of the three is given; a user's own Unix
    socket needs none of them, and is sent none.
    """

    address: str  # "host:port" or "unix:/path"
    key: str | None = field(default=None, repr=False)  # an access key, as `backline access add` prints it
    ca: str | os.PathLike[str] | None = None  # PEM file of the authority that signed the server's certificate
    certificate: str | os.PathLike[str] | None = None  # PEM file: this client's certificate and its private key

    def __str__(self) -> str:
        return self.address

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        given = (self.key, self.ca, self.certificate)
        return socket_path(self.address) is None and any(entry is not None for entry in given)

    def channel(self) -> grpc.Channel:
        """A channel to the server; nothing is sent yet.

        Raises:
            ValueError: the key is none that a header holds. It is not repeated.
            OSError: a file cannot be read.
        """
        options = channel_options(self.address)
        if not self.secure:
            return grpc.insecure_channel(self.address, options=options)
        roots = None if self.ca is None else Path(self.ca).read_bytes()
        own = None if self.certificate is None else Path(self.certificate).read_bytes()
        credentials = grpc.ssl_channel_credentials(roots, own, own)
        if self.key is not None:
            if not (self.key.isascii() and self.key.isprintable() and self.key.strip() == self.key and self.key):
                raise ValueError("the access key is empty or holds what no key does: give it as it was printed")
            # gRPC itself never sends these over anything but TLS.
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(self.key))
        return grpc.secure_channel(self.address, credentials, options=options)

    def why_unreachable(self, details: str) -> str:
        """A sentence for a call that found no server, from what gRPC says of it."""
        if "Failed to create security handshaker" in details:
            return f"{self.ca or self.certificate} holds no PEM certificate (and private key): name another file"
        if "Hostname Verification" in details or "not in peer certificate" in details:
            return f"the certificate of the server at {self} is for another name: use the address that it was made for"
        if "CERTIFICATE_VERIFY_FAILED" in details:
            who = "no authority that gRPC knows" if self.ca is None else f"not the authority of {self.ca}"
            return (
                f"the certificate of the server at {self} was signed by {who}, or has expired, and nothing was sent: "
                "give the CA that its owner names (ca=, --ca)"
            )
        if self.secure and "WRONG_VERSION_NUMBER" in details:
            return (
                f"the server at {self} does not speak TLS, and no key was sent: leave key and CA out if you trust the "
                "network, or have it started with --tls-cert and --tls-key"
            )
        if self.secure and "Socket closed" in details:
            return (
                f"the server at {self} broke off after TLS: it may ask for a client's certificate (certificate=, "
                f"--client-cert), or has stopped ({details})"
            )
        if not self.secure and "Socket closed" in details and self._speaks_tls():
            return (
                f"the server at {self} speaks TLS only, and nothing was sent: give an access key and the CA that its "
                "owner names (key=, ca=; --key-file, --ca)"
            )
        return f"no Backline server answers at {self}: is `backline serve` running there? ({details})"

    def _speaks_tls(self) -> bool:
        """Whether the server answers a TLS greeting, whatever its certificate is; nothing else is said to it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = self.address.rpartition("/")[2].rpartition(":")
        with (
            suppress(OSError, ValueError),
            socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS) as raw,
            context.wrap_socket(raw),
        ):
            return True
        return False
