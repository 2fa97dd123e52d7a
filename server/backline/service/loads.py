"""Makes packs resident and lets go of them, one after the other: the registry builds, the engine holds."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, Damaged, Refused, is_out_of_memory, out_of_memory
from backline.engine.limits import findable
from backline.engine.resident import Resident
from backline.packs.registry import PackEntry, PackRegistry, PackState
from backline.service.garbage import set_aside

log = logging.getLogger(__name__)


class Loads:
    """One change to what is resident at a time, on a thread of its own: a warm-up wants the machine for itself."""

    def __init__(self, engine: Engine, registry: PackRegistry) -> None:
        self._engine, self._registry = engine, registry
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backline-load")
        self._draining = False
        self._untidy = False  # something has been let go of, or set aside, while somebody played

    def entries(self) -> list[PackEntry]:
        """Every pack, by name. Reads the disk."""
        return self._registry.entries(self._resident())

    def entry(self, name: str) -> PackEntry:
        """One pack. Reads the disk. Raises PackNotFound."""
        return self._registry.entry(name, self._resident())

    def look_through(self) -> None:
        """Reads every pack once, so that no client waits for that: families are imported, which takes seconds."""
        for entry in self.entries():
            if entry.problem:
                log.warning("pack %r is damaged: %s", entry.name, entry.problem)
        self._set_aside()

    async def load(self, name: str) -> Resident:
        """Makes a pack resident where it is not.

        Raises:
            PackNotFound, PackError, Damaged: it cannot be loaded.
            Refused: there is no memory for it, or the server is about to stop.
        """
        if (resident := self._engine.residents.get(name)) is not None:
            return resident
        self._check_serving()
        return await asyncio.wrap_future(self._thread.submit(self._load, findable(name)))  # a cancel takes it back

    async def unload(self, name: str, close_sessions: bool) -> None:
        """Lets go of a pack.

        Raises:
            PackNotFound, NotFound: there is none of the name, or it is not resident.
            Damaged: sessions are open on it, and `close_sessions` is false.
        """
        await asyncio.wrap_future(self._thread.submit(self._unload, name, close_sessions))

    def tidy(self) -> None:
        """A session has ended: if it was the last one, what a change meanwhile has left behind can go."""
        if self._untidy and not self._draining and not self._engine.list_sessions():
            self._thread.submit(self._set_aside)

    def drain(self) -> None:
        """From now on nothing is loaded any more; those who wait for a load are told so."""
        self._draining = True

    def close(self) -> None:
        """Lets the thread go, as soon as those who wait for it have been told."""
        self._thread.shutdown(wait=False)

    def _load(self, name: str) -> Resident:
        """`load`, on its thread."""
        if (resident := self._engine.residents.get(name)) is not None:
            return resident
        self._check_serving()
        entry = self._registry.entry(name)
        try:
            stream = self._registry.load(name)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            raise
        self._check_serving()
        try:
            self._engine.add_stream(name, stream, replace(entry, state=PackState.RESIDENT, spec=stream.spec))
        except Refused:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(name, error) from error
            log.exception("%s failed in its warm-up", name)
            raise Damaged(f"pack {name!r} failed in its warm-up ({error}): install it again") from error
        self._set_aside()
        log.info("pack %r is resident", name)
        return self._engine.resident(name)

    def _unload(self, name: str, close_sessions: bool) -> None:
        """`unload`, on its thread."""
        self.entry(name)  # says which packs there are, if this is none
        try:
            self._engine.remove_stream(name, close_sessions)
        except BadInput as error:
            raise Damaged(str(error)) from error  # in use: a state of things, not a fault of the request
        self._set_aside()
        log.info("pack %r has been unloaded", name)

    def _set_aside(self) -> None:
        self._untidy = bool(self._engine.list_sessions())
        set_aside(quiet=not self._untidy)

    def _resident(self) -> dict[str, PackEntry]:
        found = self._engine.residents.items()
        return {name: resident.entry for name, resident in found if resident.entry is not None}

    def _check_serving(self) -> None:
        if self._draining:
            raise Refused("the server is shutting down: connect to another one or try again later")
