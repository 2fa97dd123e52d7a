"""What supervisors ask over HTTP: /metrics, /healthz (is it alive?), /readyz (may clients come?)."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from backline.engine.engine import Engine
from backline.service import hosts
from backline.service.metrics import CONTENT_TYPE, exposition

log = logging.getLogger(__name__)

ALIVE_SECONDS = 2.0  # within which the event loop must have had a turn
REQUEST_SECONDS = 5.0  # that a request may take, from its connection to the last of its answer
REMEDY = "ask by its address, or start it with --http-name"
REQUESTS = 16  # at the same time
DOOR = "operations"  # among the errors that are counted


@dataclass
class Readiness:
    """Why clients may not come yet, or any more; empty while they may."""

    hindrance: str = "starting"


@contextmanager
def operations(
    address: str,
    engine: Engine,
    readiness: Readiness,
    loop: asyncio.AbstractEventLoop,
    names: Collection[str] = (),
    request_seconds: float = REQUEST_SECONDS,
) -> Iterator[str]:
    """Answers at `address` (host:port) from a thread of its own, as long as the block; gives http://host:port.

    Args:
        names: that the server goes by beside those of its network (service/hosts.py).

    Raises:
        OSError: it cannot be listened at.
    """
    host, _, port = address.rpartition(":")

    def answer(path: str) -> tuple[HTTPStatus, str, str]:
        """Status, type of content, content."""
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE, exposition(engine)
        if path == "/readyz":
            return _plain(readiness.hindrance, "ready")
        if path == "/healthz":
            return _plain("" if _has_turns(loop) else "the event loop is stuck", "alive")
        engine.figures.count_error(DOOR, "NotFound")
        return HTTPStatus.NOT_FOUND, "text/plain", "here are /metrics, /healthz and /readyz\n"

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "Backline", ""

        def do_GET(self) -> None:
            why = hosts.foreign(self.headers.get("Host"), self.headers.get("Origin"), REMEDY, names)
            if why:
                engine.figures.count_error(DOOR, "Foreign")
                status, kind, text = HTTPStatus.FORBIDDEN, "text/plain", f"{why}\n"
            else:
                status, kind, text = answer(self.path.partition("?")[0])
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            log.debug(format, *arguments)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = REQUESTS
        slots = threading.BoundedSemaphore(REQUESTS)
        due: ClassVar[dict[Any, float]] = {}  # connections, and when each is cut off

        def process_request(self, request: Any, client_address: Any) -> None:
            if self.slots.acquire(blocking=False):
                self.due[request] = time.monotonic() + request_seconds
                super().process_request(request, client_address)
            else:
                self.shutdown_request(request)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.due.pop(request, None)
                self.slots.release()

        def service_actions(self) -> None:
            """Between looks for connections: whoever sends or takes a byte now and then holds no slot for ever."""
            now = time.monotonic()
            for request in [request for request, end in list(self.due.items()) if now >= end]:
                self.due.pop(request, None)
                with suppress(OSError):  # it has gone by itself
                    request.shutdown(socket.SHUT_RDWR)

        def handle_error(self, request: object, client_address: object) -> None:
            engine.figures.count_error(DOOR, "Broken")
            log.debug("a request broke off", exc_info=True)

    if ":" in host:
        Server.address_family = socket.AF_INET6
    try:
        server = Server((host.strip("[]"), int(port)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        raise OSError(f"cannot listen at {address} for --metrics ({error}): use HOST:PORT with a free port") from error
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="backline-operations", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _plain(problem: str, well: str) -> tuple[HTTPStatus, str, str]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    return status, "text/plain", f"{problem or well}\n"


def _has_turns(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the event loop, which carries every message, takes its turns."""
    turn = threading.Event()
    try:
        loop.call_soon_threadsafe(turn.set)
    except RuntimeError:  # it has ended
        return False
    return turn.wait(ALIVE_SECONDS)
