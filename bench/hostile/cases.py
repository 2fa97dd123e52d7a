"""Cases of bad input: what each does on the wire, told by a seed and a number, so that any can be done again.

A case is a few calls at once. `case(seed, number, pack)` is a pure function: what went wrong in a long run is repeated
by `python bench/fuzz.py --seed N --case K`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from backline_protos.v1 import backline_pb2 as pb
from hostile import values

SERVICE = "/backline.v1.Backline/"
STREAM, RENDER = SERVICE + "Stream", SERVICE + "Render"
UNARY = {
    "ListPacks": pb.ListPacksRequest,
    "GetPack": pb.GetPackRequest,
    "LoadPack": pb.LoadPackRequest,
    "UnloadPack": pb.UnloadPackRequest,
    "ListSessions": pb.ListSessionsRequest,
    "CloseSession": pb.CloseSessionRequest,
    "GetStats": pb.GetStatsRequest,
}
OTHERS = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", SERVICE + "Nothing", "/", "/a/b")
RATE = 48_000


@dataclass(frozen=True)
class Send:
    """One message, as it goes on the wire."""

    data: bytes


@dataclass(frozen=True)
class Wait:
    """For as long, or until the call ends."""

    seconds: float


@dataclass(frozen=True)
class Ready:
    """Until the server's first message, or until the call ends; nothing for one who does not read."""


@dataclass(frozen=True)
class End:
    """The client's last message has gone; the server's are awaited."""


@dataclass(frozen=True)
class Cancel:
    """The client goes."""


Action: TypeAlias = Send | Wait | Ready | End | Cancel


@dataclass(frozen=True)
class Call:
    """One call. Its last action is End or Cancel, or there is a deadline."""

    method: str
    actions: tuple[Action, ...]
    pause: float = 0.0  # seconds between reads
    reads: bool = True
    deadline: float | None = None  # seconds, as the client tells the server
    own_channel: bool = False  # that closes with the call
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def own_seconds(self) -> float:
        """What the call takes by its own will."""
        return sum(action.seconds for action in self.actions if isinstance(action, Wait)) + 200 * self.pause


@dataclass(frozen=True)
class Connection:
    """Bytes on a plain TCP connection, which closes after them."""

    data: bytes
    wait: float


@dataclass(frozen=True)
class Case:
    """What one stranger does."""

    seed: int
    number: int
    kind: str
    calls: tuple[Call | Connection, ...]


def case(seed: int, number: int, pack: str) -> Case:
    """Case `number` of a seed; half of its sessions are on `pack`, the others on `passthrough`."""
    random = Random(f"{seed}/{number}")
    kind = random.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    _, make = KINDS[kind]
    return Case(seed, number, kind, tuple(make(random, pack)))


def cases(seed: int, calls: int, pack: str) -> Iterator[Case]:
    """The first cases of a seed, with `calls` calls at least."""
    number = done = 0
    while done < calls:
        made = case(seed, number, pack)
        yield made
        done += len(made.calls)
        number += 1


# ---- messages ----------------------------------------------------------------------------------------


class Client:
    """Makes the messages of one call on a session that could be served."""

    def __init__(self, random: Random, pack: str) -> None:
        self._random = random
        self.render = random.random() < 0.25
        self.pack = random.choice((pack, "passthrough"))
        self.channels = random.choice((1, 1, 2, 2, 6, 64)) if self.pack == "passthrough" else random.choice((1, 2))
        self.rate = random.choice((8_000, 44_100, RATE, RATE, 96_000, 192_000))
        self.block = random.choice((1, 64, 480, 512, 1_024, 4_096))
        self.position = random.choice((0, 0, 0, 0, 1, -5, 10**6, 2**52))

    @property
    def method(self) -> str:
        return RENDER if self.render else STREAM

    def opening(self) -> pb.Open:
        return pb.Open(
            pack=self.pack, sample_rate=self.rate, channels=self.channels, block_size=self.block,
            mode=self._random.choice((pb.MODE_LIVE, pb.MODE_OFFLINE, pb.MODE_UNSPECIFIED)),
            seed=self._random.getrandbits(64), want_frames=self._random.random() < 0.3, client_name="stranger",
        )  # fmt: skip

    def audio(self, seconds: float) -> list[Send]:
        """The next blocks of the session, as many as last for `seconds`, 300 at most."""
        found = []
        for _ in range(min(300, 1 + int(seconds * self.rate / self.block))):
            data = values.pcm(self._random, self.channels, self.block)
            found.append(self.send(audio=pb.AudioBlock(position=self.position, pcm=data)))
            self.move(self.block)
        return found

    def move(self, samples: int) -> None:
        """On the timeline, as far as its numbers go."""
        self.position = max(-(2**63), min(2**63 - 1, self.position + samples))

    def odd(self, share: float = 0.4) -> Send:
        """Any message of the contract, ordinary but for some of its fields."""
        random = self._random
        kind = random.choice(["audio", "control", "transport", "transport", "midi", *values.CLIENT_MESSAGES])
        messages = {
            "open": self.opening(),
            "audio": pb.AudioBlock(position=self.position, pcm=values.pcm(random, self.channels, self.block)),
            "control": pb.Control(parameter="gain" if self.pack == "passthrough" else "temperature", value=0.5),
            "transport": self.transport(self.position),
            "midi": pb.Midi(position=self.position, data=b"\x90<d"),
        }
        message = messages.get(kind) or getattr(pb, values.CLIENT_MESSAGES[kind].message_type.name)()
        return self.send(**{kind: values.odd(random, message, share)})

    def transport(self, position: int, song_position: float = 8.0) -> pb.Transport:
        return pb.Transport(
            position=position,
            playing=True,
            tempo=120,
            numerator=4,
            denominator=4,
            song_position=song_position,
            bar_start=8,
        )

    def send(self, **message: object) -> Send:
        envelope = pb.RenderRequest if self.render else pb.ClientMessage
        (kind,) = message
        if kind not in envelope.DESCRIPTOR.fields_by_name:
            envelope = pb.ClientMessage  # to a Render: fields that it does not know
        return Send(values.serialized(envelope(**message)))

    def flood(self) -> list[Send]:
        """Many changes at once: due, far ahead, or in turns."""
        random = self._random
        kind = random.choice(("control", "transport", "midi"))
        far = random.choice((0, 0, 10**5, 10**6, 2**40))
        step = random.choice((0, 1, 1, 480, -1))
        found = []
        for index in range(random.choice((200, 1_000, 3_000))):
            position = min(2**63 - 1, self.position + far + index * step)
            if kind == "control":
                name = "gain" if self.pack == "passthrough" else "temperature"
                message = pb.Control(parameter=name, value=index % 2)
                if random.random() < 0.5:
                    message.position = position
                found.append(self.send(control=message))
            elif kind == "transport":
                found.append(self.send(transport=self.transport(position, 7 * (index % 5))))
            else:
                found.append(self.send(midi=pb.Midi(position=max(0, position), data=b"\x90<d" * 8)))
        return found


# ---- kinds of cases ----------------------------------------------------------------------------------


def first_message(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    yield Call(client.method, (client.odd(), *client.audio(0.01), End()))


def odd_open(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    opening = values.odd(random, client.opening(), random.choice((0.0, 0.0, 0.2)))
    yield Call(client.method, (client.send(open=opening), *client.audio(0.3), End()))


def odd_message(random: Random, pack: str) -> Iterator[Call]:
    """A session like any, and then messages that are not."""
    client = Client(random, pack)
    actions: list[Action] = [client.send(open=client.opening())]
    if random.random() < 0.6:
        actions += client.audio(random.choice((0.01, 0.5, 1.5)))
    for _ in range(random.choice((1, 1, 2, 5))):
        actions.append(client.odd(random.choice((0.0, 0.0, 0.3))))
        if random.random() < 0.5:
            actions += client.audio(random.choice((0.05, 1.0)))
    yield Call(client.method, (*actions, End()), pause=random.choice((0.0, 0.0, 0.01)))


def extreme_transport(random: Random, pack: str) -> Iterator[Call]:
    """A transport whose numbers are odd, and enough audio for the model to use it."""
    client = Client(random, pack)
    transport = client.transport(client.position)
    names = ("song_position", "bar_start", "tempo", "loop_start", "loop_end")
    for name in random.sample(names, random.choice((1, 2, 2))):
        setattr(transport, name, values.double(random))
    if random.random() < 0.3:  # as far apart as can be
        transport.song_position = random.choice((1e7, 1e15, 1e300, 1.7e308)) * random.choice((1, -1))
        transport.bar_start = -transport.song_position
    if random.random() < 0.3:
        transport.position = values.integer(random, -(2**63), 2**63 - 1)
    if random.random() < 0.3:
        transport.numerator, transport.denominator = random.choice(((64, 1), (1, 64), (0, 0), (3, 7), (2**32 - 1, 4)))
    actions: tuple[Action, ...] = (client.send(open=client.opening()), client.send(transport=transport))
    actions += (*client.audio(1.7), End())
    yield Call(client.method, actions)


def loud(random: Random, pack: str) -> Iterator[Call]:
    """Samples that overflow whatever multiplies them."""
    client = Client(random, pack)
    client.pack, client.channels, client.block = pack, 1, 4_096
    actions: list[Action] = [client.send(open=client.opening())]
    for _ in range(int(1.7 * client.rate / client.block)):
        odd = random.choice(values.SAMPLES)
        audio = pb.AudioBlock(position=client.position, pcm=values.np.full(client.block, odd, "<f4").tobytes())
        actions.append(client.send(audio=audio))
        client.move(client.block)
    yield Call(client.method, (*actions, End()))


def undecodable(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    whole = client.send(open=client.opening()).data
    broken = random.choice(
        (
            values.garbage(random),
            whole[: random.randrange(1, len(whole))],
            whole + b"\x0a\xff\xff\xff\xff\x0f",
            b"\x0b" * 300,  # groups in groups
            b"\xff" * 11,
            bytes(random.choice((0, 1, 1_000_000))),
            whole.replace(client.pack.encode(), values.NOT_UTF8[: len(client.pack)].ljust(len(client.pack), b"\xff")),
        )
    )
    before: list[Action] = [Send(whole), *client.audio(0.1)] if random.random() < 0.5 else []
    yield Call(client.method, (*before, Send(broken), *client.audio(0.01), random.choice((End(), Cancel()))))


def flood(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    actions: list[Action] = [client.send(open=client.opening())]
    if random.random() < 0.7:
        actions += client.audio(0.05)
    actions += [*client.flood(), *client.audio(random.choice((0.1, 1.0)))]
    yield Call(client.method, (*actions, random.choice((End(), Cancel()))))


def big_midi(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    client.render = False
    data = b"\x90<d" * random.choice((10_000, 100_000, 1_000_000))
    opening = client.send(open=client.opening())
    yield Call(STREAM, (opening, client.send(midi=pb.Midi(position=0, data=data)), *client.audio(0.1), End()))


def vanish(random: Random, pack: str) -> Iterator[Call]:
    """Cancels, or loses its connection, at any stage."""
    client = Client(random, pack)
    stages: list[list[Action]] = [
        [client.send(open=client.opening())],
        [random.choice((Ready(), Wait(0.0), Wait(0.003)))],
        list(client.audio(random.choice((0.01, 0.4, 1.0)))),
        [Wait(random.choice((0.0, 0.01, 0.1)))],
        list(client.audio(0.3)),
    ]
    kept = stages[: random.randrange(len(stages) + 1)]
    actions = [action for stage in kept for action in stage]
    yield Call(
        client.method, (*actions, Cancel()), own_channel=random.random() < 0.4, reads=random.random() < 0.7,
        deadline=random.choice((None, None, 0.001, 0.05, 0.5)),
    )  # fmt: skip


def storm(random: Random, pack: str) -> Iterator[Call]:
    """Clients that come and go, again and again."""
    for _ in range(random.choice((4, 8, 16))):
        client = Client(random, pack)
        client.render = False
        stay = random.choice(((), (), (Ready(),), (Wait(0.01),), tuple(client.audio(0.02))))
        yield Call(STREAM, (client.send(open=client.opening()), *stay, Cancel()), own_channel=random.random() < 0.3)


def detach(random: Random, pack: str) -> Iterator[Call]:
    """Sessions that are to be kept and are left, again and again, and strangers who want them."""
    for _ in range(random.choice((4, 16, 30))):
        client = Client(random, pack)
        client.render = False
        opening = client.opening()
        opening.lease_seconds = random.choice((0.2, 1.0, 2.0))
        stay = random.choice(((), (Ready(),), tuple(client.audio(0.02))))
        yield Call(STREAM, (client.send(open=opening), *stay, Cancel()), own_channel=random.random() < 0.3)
        resume = pb.Resume(token=random.choice((values.text(random), "0" * 32)), received=values.integer(random, 0, 9))
        yield Call(STREAM, (client.send(resume=resume), *client.audio(0.01), random.choice((End(), Cancel()))))


def unread(random: Random, pack: str) -> Iterator[Call]:
    """Sends and does not read, or sends nothing."""
    client = Client(random, pack)
    sent = client.audio(random.choice((0.0, 1.0, 8.0)))
    yield Call(
        client.method,
        (client.send(open=client.opening()), *sent, Wait(random.choice((0.05, 0.5))), Cancel()),
        reads=False,
    )


def slow_reader(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    yield Call(client.method, (client.send(open=client.opening()), *client.audio(1.0), End()), pause=0.02)


def jumps(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    client.position = random.choice((0, -(2**63), 2**63 - 1, 2**63 - 600, 2**53, -(2**53), -1))
    actions: list[Action] = [client.send(open=client.opening())]
    for _ in range(random.choice((1, 2, 6))):
        actions += client.audio(random.choice((0.0, 0.05)))
        limits = (1, client.block, client.rate, 59 * client.rate, 61 * client.rate, 2**40, -1, -client.block, -(2**40))
        client.move(random.choice(limits))
    yield Call(client.method, (*actions, *client.audio(0.05), End()))


def blocks(random: Random, pack: str) -> Iterator[Call]:
    """Blocks of sizes that do not fit the session."""
    client = Client(random, pack)
    client.block = random.choice((1, 512, 65_536))
    opening = client.opening()
    actions: list[Action] = [client.send(open=opening)]
    for _ in range(random.choice((1, 3))):
        size = random.choice((0, 1, client.block - 1, client.block, client.block, client.block + 1, 200_000))
        data = values.pcm(random, client.channels, size) + bytes(random.choice((0, 0, 1, 3, 4)))
        actions.append(client.send(audio=pb.AudioBlock(position=client.position, pcm=data)))
        client.move(size)
    yield Call(client.method, (*actions, End()))


def unary(random: Random, pack: str) -> Iterator[Call]:
    name = random.choice(list(UNARY))
    message = UNARY[name]()
    if "name" in message.DESCRIPTOR.fields_by_name:
        message.name = random.choice((values.text(random), values.text(random), pack, "passthrough"))
    elif "id" in message.DESCRIPTOR.fields_by_name:
        message.id = values.text(random)
    if isinstance(message, pb.UnloadPackRequest):
        message.close_sessions = random.random() < 0.5 and message.name != pack  # the bystanders' pack stays
    data = values.serialized(message)
    choices = (data, data, data, data + values.garbage(random), values.garbage(random), data[:-1])
    yield Call(SERVICE + name, _once(random, random.choice(choices) if name != "UnloadPack" else data))


def other_method(random: Random, pack: str) -> Iterator[Call]:
    """Methods that are not there, and those of the services beside ours."""
    data = random.choice((b"", b"\x0a\x00", b"\x0a\x04none", values.garbage(random)))
    yield Call(random.choice(OTHERS), _once(random, data, random.choice((End(), Cancel()))), deadline=1.0)


def wrong_shape(random: Random, pack: str) -> Iterator[Call]:
    """A stream where one message is due, and none or several where there is to be one."""
    name = random.choice(("GetStats", "GetPack", "ListPacks", "CloseSession"))
    sends = [Send(values.serialized(UNARY[name]()))] * random.choice((0, 2, 5))
    last = random.choice((End(), Cancel())) if sends else Cancel()  # gRPC itself waits for the one message for ever
    yield Call(SERVICE + name, (*sends, last))


def metadata(random: Random, pack: str) -> Iterator[Call]:
    client = Client(random, pack)
    entries: tuple[tuple[str, str | bytes], ...] = random.choice(
        (
            (("authorization", "x" * 6_000),),
            (("x-bin", random.randbytes(3_000)),),
            (("x-many", "1"),) * 100,
            (("grpc-encoding", "gzip"),),
            (("user-agent", "%s" * 100),),
        )
    )
    yield Call(client.method, (client.send(open=client.opening()), *client.audio(0.05), End()), metadata=entries)


def connection(random: Random, pack: str) -> Iterator[Connection]:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    data = random.choice(
        (
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            random.randbytes(2_000),
            preface,
            preface + random.randbytes(500),
            preface + settings + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1_000),
            preface + settings + b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08" * 200,  # resets
            preface + settings + b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8),
        )
    )
    yield Connection(data, random.choice((0.0, 0.05)))


def _once(random: Random, data: bytes, last: Action | None = None) -> tuple[Action, ...]:
    return (Send(data), last or (Cancel() if random.random() < 0.1 else End()))


KINDS: dict[str, tuple[int, Callable[[Random, str], Iterator[Call | Connection]]]] = {
    function.__name__: (weight, function)
    for weight, function in (
        (8, first_message), (8, odd_open), (18, odd_message), (8, extreme_transport), (4, loud), (7, undecodable),
        (5, flood), (1, big_midi), (10, vanish), (2, storm), (2, detach), (4, unread), (2, slow_reader), (6, jumps),
        (5, blocks), (10, unary), (3, other_method), (3, wrong_shape), (3, metadata), (2, connection),
    )
}  # fmt: skip
