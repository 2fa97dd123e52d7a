"""OSCQuery: the addresses as JSON over HTTP, so that a controller lays itself out (the proposal of Vidvox, 2018).

GET /                  all of it      GET /session/1         what lies below
GET /packs?VALUE       one attribute  GET /?HOST_INFO        where OSC is spoken, and what of the proposal is

A WebSocket at the same port is told what changes: listening.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from backline.doors.board import Leaf

NODE_ATTRIBUTES = ("FULL_PATH", "CONTENTS", "TYPE", "ACCESS", "VALUE", "RANGE", "UNIT", "DESCRIPTION")
REQUEST_BYTES = 8_192
Answer = tuple[str, bytes]  # status line's end, body


def host_info(host: str, port: int) -> dict[str, Any]:
    """Where OSC is spoken, and which parts of the proposal are served."""
    extensions = dict.fromkeys(("ACCESS", "VALUE", "RANGE", "DESCRIPTION", "UNIT", "LISTEN"), True)
    extensions |= dict.fromkeys(("PATH_CHANGED", "TAGS", "CLIPMODE", "EXTENDED_TYPE"), False)
    return {"NAME": "Backline", "OSC_IP": host, "OSC_PORT": port, "OSC_TRANSPORT": "UDP", "EXTENSIONS": extensions}


def document(leaves: Iterable[Leaf]) -> dict[str, Any]:
    """All addresses as a tree of nodes."""
    root: dict[str, Any] = {"FULL_PATH": "/", "ACCESS": 0, "DESCRIPTION": "Backline", "CONTENTS": {}}
    for leaf in leaves:
        node, path = root, ""
        for part in leaf.address.split("/")[1:]:
            path = f"{path}/{part}"
            node = node.setdefault("CONTENTS", {}).setdefault(part, {"FULL_PATH": path, "ACCESS": 0})
        node.update(_node(leaf))
    return root


def _node(leaf: Leaf) -> dict[str, Any]:
    """What is said of one address."""
    entry = leaf.entry
    values = None
    if entry.read is not None:
        try:
            values = leaf.read()
        except Exception:  # it has no value now
            values = None
    tags = entry.types.removesuffix("*") if values is None else entry.tags(values)
    node: dict[str, Any] = {
        "FULL_PATH": leaf.address,
        "TYPE": tags or "N",
        "ACCESS": entry.access,
        "DESCRIPTION": entry.description,
    }
    if values is not None:
        node["VALUE"] = list(values) if tags else [None]
    if entry.minimum is not None or entry.maximum is not None:
        limits = {"MIN": entry.minimum, "MAX": entry.maximum}
        node["RANGE"] = [{name: limit for name, limit in limits.items() if limit is not None} for _ in tags]
    if entry.unit:
        node["UNIT"] = [entry.unit for _ in tags]
    return node


def answer(target: str, leaves: Iterable[Leaf], host: str, port: int) -> Answer:
    """What a GET of `target` is answered."""
    parts = urlsplit(target)
    if parts.query == "HOST_INFO":
        return "200 OK", _json(host_info(host, port))
    node: dict[str, Any] | None = document(leaves)
    for part in unquote(parts.path).strip("/").split("/"):
        if part and node is not None:
            node = node.get("CONTENTS", {}).get(part)
    if node is None:
        return "404 Not Found", b""
    if not parts.query:
        return "200 OK", _json(node)
    attribute = parts.query.partition("=")[0]
    if attribute not in NODE_ATTRIBUTES:
        return "400 Bad Request", b""
    return ("200 OK", _json({attribute: node[attribute]})) if attribute in node else ("204 No Content", b"")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
