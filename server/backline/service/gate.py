"""The gate: where the server may listen, and who is let in at the network's side of it.

On this machine, at loopback and at the user's own socket, there is no gate: whoever comes is the user. Elsewhere it is
TLS and an access key, or `trust_network`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from backline.engine.figures import Figures
from backline.service.access import OWNER, Guest, Guests, access_file, current
from backline.service.grpc_carrier import Context
from backline.service.status import status_of
from backline_client.wire import is_local

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # between two looks at the file of keys, so that a revoked one ends its sessions
OPEN_TO_ALL = "/grpc.health.v1.Health/Check"  # says whether the server serves, and nothing else


@dataclass(frozen=True)
class Tls:
    """PEM files: the server's certificate with its chain, its private key, and who signs the clients' certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None  # without it, clients need no certificate

    def credentials(self) -> grpc.ServerCredentials:
        """Raises OSError where a file cannot be read, or does not belong to the others."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = f"{self.certificate} and {self.key}"
        try:
            context.load_cert_chain(self.certificate, self.key, password="")
            if self.client_ca is not None:
                names = str(self.client_ca)
                context.load_verify_locations(self.client_ca)
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise OSError(f"{names} cannot be used for TLS ({reason}): give PEM files that belong together") from None
        except OSError as error:
            raise OSError(f"{names} cannot be read: {error.strerror}") from None
        roots = None if self.client_ca is None else self.client_ca.read_bytes()
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)


@dataclass(frozen=True)
class Gate:
    """What whoever starts the server has decided."""

    tls: Tls | None = None
    keys: Path | None = None  # file of access keys; the user's own, where none is named
    trust_network: bool = False  # lets anybody in who reaches an address

    def check(self, address: str, secure: bool = False) -> None:
        """Whether anything may listen at `address`; `secure`: it speaks TLS and asks for keys.

        Raises:
            OSError: other machines reach it, and nothing keeps them out.
        """
        if not secure:
            keys = "Give --tls-cert and --tls-key and make access keys with `backline access add NAME`, or listen"
            self._check_open(f"cannot listen at {address}", address, f"{keys} at 127.0.0.1")

    def check_keyless(self, option: str, address: str) -> None:
        """Whether a door that asks for no key, ever, may open at `address`, which `option` names.

        Raises:
            OSError: other machines reach it.
        """
        self._check_open(f"{option} {address}", address, "It asks for no key: use 127.0.0.1, to which `ssh -L` leads")

    def _check_open(self, what: str, address: str, remedy: str) -> None:
        if is_local(address):
            return
        if not self.trust_network:
            raise OSError(
                f"{what}: other machines may reach it. {remedy}; --trust-network is for a network where everybody may "
                "play, and hear what is sent"
            )
        log.warning("anybody who reaches %s may play here, and hear what is sent (--trust-network)", address)

    def guests(self) -> Guests | None:
        """Who has a key; None where nobody needs one. Raises OSError where nobody has one."""
        return None if self.tls is None else Guests(self.keys or access_file())


class Admission(grpc.aio.ServerInterceptor):
    """Lets nobody in over TLS without a key, whatever is asked for; who it is stands in `access.current`."""

    def __init__(self, guests: Guests | None, figures: Figures) -> None:
        self._guests, self._figures = guests, figures

    async def watch(self) -> None:
        """Sees to it that a revoked key ends; until it is cancelled."""
        while self._guests is not None:
            await asyncio.sleep(LOOK_SECONDS)
            self._guests.look()

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[grpc.RpcMethodHandler]], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or details.method == OPEN_TO_ALL:
            return handler
        kinds = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if streams else "unary" for streams in kinds)
        return handler._replace(**{kind: self._admitting(getattr(handler, kind))})

    def _admitting(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """`answer`, for those who may come in."""

        async def answered(request: Any, context: Context) -> Any:
            current.set(await self._admit(context))
            return await answer(request, context)

        async def answered_bit_by_bit(request: Any, context: Context) -> AsyncIterator[Any]:
            current.set(await self._admit(context))
            async for response in answer(request, context):
                yield response

        return answered_bit_by_bit if inspect.isasyncgenfunction(answer) else answered

    async def _admit(self, context: Context) -> Guest:
        if context.auth_context().get("transport_security_type") == [b"insecure"]:
            return OWNER  # of this machine, or of a network that is trusted: nothing else is listened at so
        try:
            assert self._guests is not None
            guest = self._guests.guest(context.invocation_metadata())
            if guest.spend(0, 0):
                raise guest.over_rate()
        except Exception as error:
            self._figures.count_error("gate", type(error).__name__)
            await context.abort(*status_of(error))
            raise  # abort has raised already
        return guest


CLOSED = Gate()  # to other machines
