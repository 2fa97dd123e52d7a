"""A web server on this machine that gives files, in part where it is asked, and breaks off where a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What it gives: change it while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)  # ETags
    breaks_after: int | None = None  # bytes of the body
    knows_ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of every request
    address: str = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextmanager
def file_server() -> Iterator[FileServer]:
    served = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path.lstrip("/"), self.headers["Range"]
            served.asked.append((name, wanted))
            if name not in served.files:
                self.send_error(404)
                return
            whole, tag = served.files[name], served.tags.get(name, "")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and served.knows_ranges else 0
            if self.headers["If-Range"] not in (None, tag):
                start = 0
            body = whole[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()
            with suppress(ConnectionError):  # who only asks for the length does not wait for the rest
                self.wfile.write(body[: served.breaks_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
