"""Who may ask over HTTP: pages of this server's own, and programs, under names that it goes by.

A browser sends the name it was asked for as Host, also where a stranger's name server leads that name to this machine
(DNS rebinding), and the site of the page that asks as Origin. Programs send no Origin; they could use gRPC as well.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection


def named(host: str) -> str:
    """The name in a Host header, without a port."""
    host = host.lower()
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() else host


def problem(host: str, origin: str | None, known: Callable[[str], bool], remedy: str) -> str:
    """Why a request with these headers is refused; empty where it is not.

    Args:
        known: whether the server goes by a name.
        remedy: what to ask by instead.
    """
    if not known(named(host)):
        return f"this server does not go by the name {named(host)[:60]!r}: {remedy}"
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return "a page of another site may not ask here"
    return ""


def foreign(host: str | None, origin: str | None, remedy: str, names: Collection[str] = ()) -> str:
    """The same for a door to which every name of this network leads, and `names`. Programs may name no host; browsers
    always do.
    """
    return "" if host is None else problem(host, origin, lambda name: of_this_network(name, names), remedy)


def of_this_network(name: str, names: Collection[str] = ()) -> bool:
    """Whether no stranger can have led `name` here: an address, a name without dots, one of mDNS, or one of `names`."""
    if "." not in name or name.endswith((".local", ".localhost")) or name in names:
        return bool(name)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
