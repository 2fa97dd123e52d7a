"""Access keys: who may come in over the network, kept as hashes in a file that is read again whenever it changes.

A key is 256 random bits, so that its plain SHA-256 can be found by nobody who reads the file. It is shown once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import os
import secrets
import stat
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from backline.engine.errors import Forbidden, Refused, Unauthenticated
from backline.packs.toml import dumps
from backline.service.carrier import Carrier
from backline.whole_file import whole_file
from backline_protos.v1 import backline_pb2 as pb

log = logging.getLogger(__name__)

PREFIX = "backline_"  # by which scanners for secrets know one
SLACK = 1.25  # by which a rate may be exceeded: sound cards run fast, and a session has more to say than its audio
BURST_SECONDS = 5.0  # of a rate that a key may take at once: a plugin that comes back repeats the last seconds
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry of the file. What is left out is not limited."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    added: date
    revoked: date | None = None
    sessions: Annotated[int, msgspec.Meta(ge=1)] | None = None  # open at the same time
    packs: tuple[str, ...] = ()  # that it may play; all, where none is named
    messages_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    bytes_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key] = []


class AccessError(OSError):
    """The file of access keys cannot be used; the message names it and says what to do."""


def config_folder() -> Path:
    """Where the user's settings lie, by the XDG base directory specification."""
    home = os.environ.get("XDG_CONFIG_HOME") or ""
    try:
        base = Path(home) if os.path.isabs(home) else Path.home() / ".config"
    except RuntimeError:
        raise OSError("you have no home folder: set HOME or XDG_CONFIG_HOME, or name the file") from None
    return base / "backline"


def access_file() -> Path:
    """The user's file of access keys."""
    return config_folder() / "access.toml"


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, revoked ones included; none where there is no file.

    Raises:
        AccessError: it is damaged, or others could write into it.
    """
    try:
        found = path.stat()
        if hasattr(os, "geteuid") and (found.st_uid not in (os.geteuid(), 0) or found.st_mode & WRITABLE_BY_OTHERS):
            raise AccessError(f"{path} could be written by others: make it yours alone with chown and chmod 600")
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).keys
    except FileNotFoundError:
        return []
    except ValueError as error:  # no TOML, or msgspec's
        raise AccessError(
            f"{path} holds no access keys ({error}): mend it, or move it away and add them again"
        ) from error


def add_key(path: Path, name: str, **limits: Any) -> str:
    """Makes a key of a new name, and returns it: nobody can find it out again.

    Raises:
        AccessError: the name is taken, or a value is out of range.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": _digest(secret), "added": date.today(), **limits}
    with _changing(path) as keys:
        if any(key.name == name and key.revoked is None for key in keys):
            raise AccessError(f"there is a key {name!r} already: revoke it first, or choose another name")
        try:
            keys.append(msgspec.convert({field: value for field, value in entry.items() if value is not None}, Key))
        except msgspec.ValidationError as error:
            raise AccessError(f"no key is made of these values: {error}") from error
    return secret


def revoke_key(path: Path, name: str) -> None:
    """From now on the key of that name opens nothing; a server ends its sessions within a second.

    Raises:
        AccessError: there is none.
    """
    with _changing(path) as keys:
        valid = {key.name: index for index, key in enumerate(keys) if key.revoked is None}
        if name not in valid:
            raise AccessError(f"there is no key {name!r} to revoke: there is {', '.join(valid) or 'none'}")
        keys[valid[name]] = msgspec.structs.replace(keys[valid[name]], revoked=date.today())


@contextmanager
def _changing(path: Path) -> Iterator[list[Key]]:
    """The keys of a file, which are written when the block has changed them. One change after the other: who adds a key
    while another one is revoked must not bring that one back.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "a") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(path)
        yield keys
        with whole_file(path) as part:
            part.touch(mode=0o600)
            part.write_text(dumps({"keys": [msgspec.to_builtins(key) for key in keys]}))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Allowance:
    """So much a second, of which a few seconds' worth may be taken at once."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock, self._since, self._left = clock, clock(), rate * BURST_SECONDS

    def take(self, amount: float) -> float:
        """Takes `amount`, and returns the seconds until it would have been there."""
        now = self._clock()
        self._left = min(self.rate * BURST_SECONDS, self._left + (now - self._since) * self.rate) - amount
        self._since = now
        return max(0.0, -self._left / self.rate)


class Guest:
    """Whoever comes with one key: what it may, and what it has taken. The event loop."""

    def __init__(self, key: Key | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Without a key: the user whose server it is, who may do everything."""
        self.key, self._clock = key, clock
        self.sessions = 0  # that it holds a place for
        self._live, self._offline = self._made(), self._made()  # a render must not take what a stage lives on

    @property
    def name(self) -> str:
        return "" if self.key is None else self.key.name

    @property
    def is_owner(self) -> bool:
        return self.key is None

    def renew(self, key: Key) -> None:
        """Takes what the file says now."""
        if key != self.key:
            self.key = key
            self._live, self._offline = self._made(), self._made()

    def may_play(self, pack: str) -> bool:
        return self.key is None or not self.key.packs or pack in self.key.packs

    def check_pack(self, pack: str) -> None:
        """Raises Forbidden where the key is not for this pack."""
        if self.key is not None and not self.may_play(pack):
            raise Forbidden(f"the key {self.name!r} plays {', '.join(self.key.packs)} only: ask for one of them")

    def check_valid(self) -> None:
        """Raises Unauthenticated once the key has been revoked."""
        if self.key is not None and self.key.revoked is not None:
            raise Unauthenticated(
                f"the access key {self.name!r} was revoked on {self.key.revoked}: ask the server's owner for another"
            )

    @property
    def places(self) -> float:
        """How many sessions more its key may hold."""
        return math.inf if self.key is None or self.key.sessions is None else self.key.sessions - self.sessions

    def no_place(self) -> Refused:
        """What it is told then."""
        return Refused(f"the key {self.name!r} holds all {self.sessions} sessions that it may: close one of them")

    def spend(self, messages: int, size: int, offline: bool = False) -> float:
        """Books messages of `size` bytes together; seconds that they come before their time."""
        amounts = {"messages": messages, "bytes": size}
        allowances = self._offline if offline else self._live
        return max((allowance.take(amounts[what]) for what, allowance in allowances.items()), default=0.0)

    def over_rate(self) -> Refused:
        """What whoever sends faster is told."""
        rates = " and ".join(f"{rate:g} {what}" for what, rate in self._rates().items())
        return Refused(f"the key {self.name!r} may send {rates} a second: send less, or in larger blocks")

    def metered(self, carrier: Carrier) -> Carrier:
        """`carrier`, within the key's rates."""
        return carrier if self.key is None else _Metered(carrier, self)  # a key may be given rates while it plays

    def _rates(self) -> dict[str, float]:
        key = self.key
        rates = {} if key is None else {"messages": key.messages_per_second, "bytes": key.bytes_per_second}
        return {what: rate for what, rate in rates.items() if rate is not None}

    def _made(self) -> dict[str, Allowance]:
        return {what: Allowance(rate * SLACK, self._clock) for what, rate in self._rates().items()}


class _Metered:
    """A carrier whose client is held to the rates of its key: a render waits, whoever plays live is told to stop."""

    def __init__(self, carrier: Carrier, guest: Guest) -> None:
        self.response = carrier.response
        self._carrier, self._guest = carrier, guest
        self._has_time = carrier.response is pb.RenderResponse

    async def read(self) -> Any | None:
        request = await self._carrier.read()
        if request is not None:
            if request.WhichOneof("message") == "open":
                self._has_time |= request.open.mode == pb.MODE_OFFLINE
            elif request.WhichOneof("message") == "resume":
                self._has_time = True  # what a cut has held up comes at once
            early = self._guest.spend(1, request.ByteSize(), self._has_time)
            if early and not self._has_time:
                raise self._guest.over_rate()
            await asyncio.sleep(early)
        return request

    async def write(self, message: Any) -> None:
        await self._carrier.write(message)

    async def fail(self, error: Exception) -> None:
        await self._carrier.fail(error)


OWNER = Guest()
current: ContextVar[Guest] = ContextVar("backline_guest")  # of the call at hand; without one nothing is answered


class Guests:
    """Everyone who has a key, as the file says at the time. The event loop."""

    def __init__(self, path: Path, on_change: Callable[[Guest], None] = lambda guest: None) -> None:
        """
        Args:
            on_change: called with everyone who may something else from now on.

        Raises:
            AccessError: the file cannot be used, or holds no key.
        """
        self._path, self.on_change = path, on_change
        self._guests: dict[str, Guest] = {}  # by hash
        self._seen = self._signature()
        self._take(read_keys(path))
        if not any(guest.key is not None and guest.key.revoked is None for guest in self._guests.values()):
            raise AccessError(f"nobody has an access key ({path}): make one with `backline access add NAME`")

    def look(self) -> None:
        """Reads the file again if it has changed. One that cannot be used changes nothing, and is complained of."""
        seen = self._signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(read_keys(self._path))
        except OSError as error:
            log.error("the access keys stay as they were: %s", error)
            if not isinstance(error, AccessError):  # the system could not read it just now
                self._seen = ()

    def guest(self, metadata: Sequence[tuple[str, str | bytes]] | None) -> Guest:
        """Whoever makes a call with this metadata.

        Raises:
            Unauthenticated: it has no key, or none that opens this server.
        """
        self.look()
        said = [value for name, value in metadata or () if name == "authorization"]
        if not said:
            raise Unauthenticated(
                "this server asks for an access key: give yours (key=, --key-file, BACKLINE_KEY); its owner makes one "
                "with `backline access add NAME`"
            )
        scheme, _, secret = str(said[0]).partition(" ")
        if len(said) > 1 or scheme.lower() != "bearer" or not secret.startswith(PREFIX):
            raise Unauthenticated(f"what came is no access key, which begins with {PREFIX}: give it as it was printed")
        digest, found = _digest(secret), None
        for known, guest in self._guests.items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = guest
        if found is None:
            raise Unauthenticated("this server does not know the access key: is it another server's, or mistyped?")
        found.check_valid()
        return found

    def _take(self, keys: Iterable[Key]) -> None:
        before, self._guests = self._guests, {}
        for key in keys:
            self._guests[key.sha256] = guest = before.pop(key.sha256, None) or Guest(key)
            self._renew(guest, key)
        for guest in before.values():
            if guest.key is not None and guest.key.revoked is None:  # its line has been deleted
                self._renew(guest, msgspec.structs.replace(guest.key, revoked=date.today()))

    def _renew(self, guest: Guest, key: Key) -> None:
        before = guest.key
        if before == key:
            return
        guest.renew(key)
        if before is not None and before.revoked is None and key.revoked is not None:
            log.warning("the access key %r has been revoked: its sessions end", guest.name)
        self.on_change(guest)

    def _signature(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
