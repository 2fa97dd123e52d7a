"""The console's addresses: its page, the contract's calls and its stream, and figures of sessions and packs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from backline.doors.console import card, unary
from backline.doors.console.carrier import WebSocketCarrier
from backline.doors.console.guard import Guard
from backline.doors.console.live import Live
from backline.doors.console.schema import schema
from backline.service.server import House
from backline.service.servicer import Servicer
from backline_protos.v1 import backline_pb2 as pb

PAGE = Path(__file__).parent / "page"

Answer = Callable[[Request], Awaitable[Response]]


def application(house: House, names: Collection[str] = ()) -> ASGIApp:
    """Of one server, on its event loop; `names` that it goes by beside those of this machine."""
    live = Live(house)
    servicer = Servicer(house.engine, house.loads, house.desk)

    async def call(request: Request) -> Response:
        return await unary.call(servicer, request)

    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        carrier = WebSocketCarrier(websocket)
        task = asyncio.current_task()
        assert task is not None
        try:
            await house.desk.serve(carrier)
            await carrier.end()
        except asyncio.CancelledError:  # so a call ends whose client has gone
            if task.cancelling():
                raise

    async def figures(_: Request) -> Response:
        return Response(await asyncio.to_thread(live.figures), media_type=unary.JSON)

    async def control(request: Request) -> Response:
        live.control(request.path_params["session"], await unary.read(request, pb.Control))
        return JSONResponse({})

    async def text(request: Request) -> Response:
        live.text(request.path_params["session"], await unary.read(request, pb.Text))
        return JSONResponse({})

    def steered(line: str) -> Answer:
        """Has what plays on the sound card do `line`, with the names of the path in it."""

        async def answer(request: Request) -> Response:
            path = request.path_params
            return JSONResponse({"answer": await live.steer(path["name"], line.format(**path))})

        return _told(answer)

    async def described(_: Request) -> Response:
        return JSONResponse(schema())

    async def shown(request: Request) -> Response:
        entry = await asyncio.to_thread(house.loads.entry, request.path_params["pack"])
        return HTMLResponse(await asyncio.to_thread(card.html, entry))

    async def pictured(request: Request) -> Response:
        entry = await asyncio.to_thread(house.loads.entry, request.path_params["pack"])
        path, kind = await asyncio.to_thread(card.picture, entry, request.path_params["picture"])
        return FileResponse(path, media_type=kind)

    service = f"/{unary.SERVICE.full_name}"
    routes = [
        WebSocketRoute(f"{service}/Stream", stream),
        Route(service + "/{method}", call, methods=["POST"]),
        Route("/schema.json", described),
        Route("/live.json", figures),
        Route("/sessions/{session}/control", _told(control), methods=["POST"]),
        Route("/sessions/{session}/text", _told(text), methods=["POST"]),
        Route("/on-card/{name}/next", steered("next"), methods=["POST"]),
        Route("/on-card/{name}/scene/{number:int}", steered("scene {number}"), methods=["POST"]),
        Route("/on-card/{name}/learn/{parameter}", steered("learn {parameter}"), methods=["POST"]),
        Route("/packs/{pack}/card", _told(shown)),
        Route("/packs/{pack}/{picture}", _told(pictured)),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Guard(Starlette(routes=routes), names, house.engine.figures.count_error)


def _told(answer: Answer) -> Answer:
    """`answer`, or why there is none."""

    async def told(request: Request) -> Response:
        try:
            return await answer(request)
        except Exception as error:
            return unary.refusal(error)

    return told
