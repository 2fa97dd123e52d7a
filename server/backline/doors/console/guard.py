"""Lets in who may ask the console (service/hosts.py), and tells browsers how little a page of it may do."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from backline.service import hosts

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
REMEDY = "use localhost, or start it with --http-name"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Guard:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, names: Collection[str], on_error: Callable[[str, str], None]) -> None:
        """
        Args:
            names: that the server goes by beside those of this machine; without a port.
            on_error: told of each answer that is none: "http" and its status.
        """
        self._app, self._on_error = app, on_error
        self._names = {*LOCAL_NAMES, *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(Headers(scope=scope)) if scope["type"] in ("http", "websocket") else ""
        if not problem:
            await self._app(scope, receive, self._with_headers(send))
        elif scope["type"] == "http":
            await PlainTextResponse(problem, 403)(scope, receive, self._with_headers(send))
        else:
            self._on_error("http", "403")
            await WebSocketClose(reason=problem)(scope, receive, send)

    def _problem(self, headers: Headers) -> str:
        return hosts.problem(headers.get("host", ""), headers.get("origin"), self._names.__contains__, REMEDY)

    def _with_headers(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if message["status"] >= 400:
                    self._on_error("http", str(message["status"]))
            await send(message)

        return sent
