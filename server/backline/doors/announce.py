"""Tells controllers on the network where the server is (zeroconf), where that package is installed."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)

SERVICES = ("_oscjson._tcp.local.", "_osc._udp.local.")


@asynccontextmanager
async def announced(host: str, port: int) -> AsyncIterator[bool]:
    """As long as the block, services of both kinds are announced there; false where they cannot be."""
    try:
        from zeroconf import IPVersion, ServiceInfo
        from zeroconf.asyncio import AsyncZeroconf
    except ImportError:
        log.info("OSC is not announced: pip install 'backline[osc]' brings zeroconf")
        yield False
        return
    address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    own = [str(address)] if not address.is_unspecified else _addresses()
    machine = socket.gethostname().partition(".")[0] or "machine"
    infos = [
        ServiceInfo(
            kind, f"Backline {machine} {port}.{kind}", port=port, parsed_addresses=own,
            server=f"backline-{machine}-{port}.local.",
        )
        for kind in SERVICES
    ]  # fmt: skip
    try:
        zeroconf = AsyncZeroconf(interfaces=own, ip_version=IPVersion.V4Only if address.version == 4 else IPVersion.All)
    except OSError as error:
        log.warning("OSC is not announced (%s): controllers need its address", error)
        yield False
        return
    try:
        for info in infos:
            await zeroconf.async_register_service(info, allow_name_change=True)
        yield True
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


def _addresses() -> list[str]:
    """This machine's own, on its networks."""
    from ifaddr import get_adapters

    found = [str(each.ip) for adapter in get_adapters() for each in adapter.ips if each.is_IPv4]
    return [each for each in found if not ipaddress.ip_address(each).is_loopback] or found
