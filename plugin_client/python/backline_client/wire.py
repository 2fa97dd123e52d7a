"""Messages of the wire contract to and from numpy: what the sync and the asyncio client share."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backline_protos.v1 import backline_pb2 as pb

DEFAULT_ADDRESS = "127.0.0.1:50505"
LAYOUTS = {  # what `channel_layout` may be; without it, 6 and 8 channels are 5.1 and 7.1
    "discrete": pb.CHANNEL_LAYOUT_DISCRETE,
    "mono": pb.CHANNEL_LAYOUT_MONO,
    "stereo": pb.CHANNEL_LAYOUT_STEREO,
    "5.1": pb.CHANNEL_LAYOUT_5_1,
    "7.1": pb.CHANNEL_LAYOUT_7_1,
}
RENDER_BLOCK = 4096  # samples per channel and message when a whole file is sent
CHANGES_AHEAD = 32_768  # of a render that go before its audio, so that a mistake in them shows at once

Audio = NDArray[np.float32]  # [channel, sample]


class SessionOptions(TypedDict, total=False):
    """What `open` and `render` take beside pack, rate and channels; what is left out is the pack's default."""

    visibility_seconds: float  # newest usable input minus chunk start; negative plays ahead
    chunk_seconds: float
    seed: int
    parameters: Mapping[str, float]
    want_frames: bool  # also receive `Frames`
    client_name: str  # for the server's list of sessions
    jitter_buffer_seconds: float  # what the client's playback adds, for the ledger
    channel_layout: str  # "discrete", "mono", "stereo", or SMPTE's "5.1" or "7.1"
    texts: Mapping[str, str]  # by name, see `Pack.texts`
    inputs: Mapping[str, int]  # which inputs of the pack the channels are, in their order, and how many of each
    task: str  # one of the pack's
    want_audio: bool  # False: a session of `Frames` alone
    new_takes: bool  # a start and a jump of the transport, and the end of its loop, begin another `Take`
    want_log: bool  # also receive `LogLine`: the session's event log, which replays it


def channel_options(address: str) -> list[tuple[str, int]]:
    """How a channel to `address` is opened: a proxy that the environment names is for other machines only."""
    # Packs may send several seconds of many channels in one block, more than gRPC's default of 4 MiB.
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 5_000),  # finds connections that only seem to be there
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 50),  # how often a session looks for its server, it says itself
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.min_reconnect_backoff_ms", 2_000),  # that an attempt may take
    ]
    return [*options, ("grpc.enable_http_proxy", 0)] if is_local(address) else options


def is_local(address: str) -> bool:
    """Whether `address`, as gRPC reads it, is on this machine: a Unix socket, or loopback."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    target = address.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:").rpartition("/")[2]
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Block:
    """One port's output: its first sample belongs under input sample `position`."""

    port: str
    position: int
    audio: Audio
    committed: int  # audio before this position will not change
    sequence: int

    @property
    def end(self) -> int:
        """The position after its last sample."""
        return self.position + self.audio.shape[1]


@dataclass(frozen=True)
class Frames:
    """Codec tokens [frame, codebook]; `first_frame` counts from the start of their take."""

    first_frame: int
    codes: NDArray[np.int64]
    take: int = 0  # from the server: which one they are of

    def message(self) -> pb.CodecFrames:
        """As the wire wants it."""
        codes = np.asarray(self.codes)
        return pb.CodecFrames(first_frame=self.first_frame, codebooks=codes.shape[1], codes=codes.ravel().tolist())


@dataclass(frozen=True)
class Text:
    """`text` is the text `name` from the first chunk that starts at or after `position` (None: at once).

    From the server: it is in force from `position` on.
    """

    name: str
    text: str
    position: int | None = None

    def message(self) -> pb.Text:
        """As the wire wants it."""
        return pb.Text(name=self.name, text=self.text, position=self.position)


@dataclass(frozen=True)
class Notes:
    """Whole MIDI 1.0 channel messages at sample `position`."""

    position: int
    data: bytes
    after: int | None = None  # chunks that start before do not hear them, as in a session that is replayed

    def message(self) -> pb.Midi:
        """As the wire wants it."""
        return pb.Midi(position=self.position, data=self.data, after=self.after)


@dataclass(frozen=True)
class Dry:
    """No port has output for these positions: it came too late, or was never computed. Play the input."""

    position: int
    samples: int


@dataclass(frozen=True)
class Marked:
    """The output at the position of a marker has come (`Session.mark`), or it is known that it does not."""

    id: int
    position: int


@dataclass(frozen=True)
class Link:
    """The connection has broken off (`up` is false), or there is one again."""

    up: bool
    said: str  # why, or what follows from it
    resumed: bool = False  # the same session goes on; else another one has been opened like it


@dataclass(frozen=True)
class Take:
    """Another take from `position` on: as a session that is opened there. From the server: where it is heard from.

    Towards the server, `heard_from` None is where it begins, or as soon as nothing older has gone out.
    """

    position: int
    heard_from: int | None = None
    skipped: bool = False  # silence from `heard_from` to `position`: what was due there is not computed
    number: int = 0  # from the server: of the session's takes, from 0

    def message(self) -> pb.Take:
        """As the wire wants it."""
        return pb.Take(position=self.position, heard_from=self.heard_from, skipped=self.skipped)


@dataclass(frozen=True)
class LogLine:
    """A line of the session's event log: a JSON object. See `backline render --replay`."""

    line: str


Event: TypeAlias = "Block | Frames | Text | Take | LogLine | Dry | Marked | Link | pb.Ledger | pb.Warning | pb.Closed"


@dataclass(frozen=True)
class Transport:
    """The host's transport at sample `position` (None: where the next block starts); holds until the next one."""

    tempo: float  # quarter notes per minute
    position: int | None = None
    playing: bool = True
    numerator: int = 4
    denominator: int = 4
    song_position: float = 0.0  # quarter notes from the start of the song
    bar_start: float = 0.0  # song position of the current bar's first beat
    loop: tuple[float, float] | None = None  # quarter notes: what reaches the second goes on at the first
    after: int | None = None  # chunks that start before do not obey it, as in a session that is replayed

    def message(self, position: int) -> pb.Transport:
        """As the wire wants it; `position` stands in where it has none of its own."""
        start, end = self.loop or (0.0, 0.0)
        return pb.Transport(
            position=position if self.position is None else self.position,
            playing=self.playing,
            tempo=self.tempo,
            numerator=self.numerator,
            denominator=self.denominator,
            song_position=self.song_position,
            bar_start=self.bar_start,
            looping=self.loop is not None,
            loop_start=start,
            loop_end=end,
            after=self.after,
        )


@dataclass(frozen=True)
class Control:
    """`parameter` takes `value` from the first chunk that starts at or after `position` (None: at once)."""

    parameter: str
    value: float
    position: int | None = None

    def message(self) -> pb.Control:
        return pb.Control(parameter=self.parameter, value=self.value, position=self.position)


Change: TypeAlias = "Transport | Control | Text | Notes | Frames | Take"  # what happens in a session beside its audio


def fields(change: Change, position: int) -> dict[str, Any]:
    """`change` as the field of a ClientMessage or RenderRequest; `position` stands in for a transport that has none."""
    match change:
        case Transport():
            return {"transport": change.message(position)}
        case Control():
            return {"control": change.message()}
        case Text():
            return {"text": change.message()}
        case Notes():
            return {"midi": change.message()}
        case Frames():
            return {"frames": change.message()}
        case Take():
            return {"take": change.message()}


def open_message(
    pack: str, sample_rate: int, channels: int, block_size: int, offline: bool, options: SessionOptions
) -> pb.Open:
    """The message that begins a session.

    Raises:
        ValueError: a number does not fit into its field (a negative rate, say), or there is no such layout.
    """
    mode = pb.MODE_OFFLINE if offline else pb.MODE_LIVE
    named: Any = {"client_name": "backline_client", **options}
    if "channel_layout" in named:
        if named["channel_layout"] not in LAYOUTS:
            raise ValueError(f"channel layout {named['channel_layout']!r}: use {', '.join(LAYOUTS)}")
        named["channel_layout"] = LAYOUTS[named["channel_layout"]]
    if named.pop("new_takes", False):
        named["on_jump"] = pb.ON_JUMP_NEW_TAKE
    if "inputs" in named:
        named["inputs"] = [pb.InputGroup(name=name, channels=count) for name, count in named["inputs"].items()]
    try:
        return pb.Open(pack=pack, sample_rate=sample_rate, channels=channels, block_size=block_size, mode=mode, **named)
    except TypeError as error:  # protobuf's message names the type, not what it wanted
        raise ValueError(f"session options {named} do not fit the contract: {error}") from error


def as_audio(samples: ArrayLike, channels: int | None = None) -> Audio:
    """`samples` as float32 [channel, sample]; a vector is mono.

    Raises:
        ValueError: it is no audio of `channels` channels, or integers, whose full scale nobody knows.
    """
    array = np.asarray(samples)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"audio is {array.dtype}: convert it to float with full scale 1.0")
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or (channels is not None and array.shape[0] != channels):
        wanted = "channel" if channels is None else channels
        raise ValueError(f"audio has shape {array.shape}: use [{wanted}, sample]")
    return np.asarray(array, np.float32)


def encode_pcm(audio: Audio) -> bytes:
    """[channel, sample] as interleaved little-endian float32."""
    return np.ascontiguousarray(audio.T, "<f4").tobytes()


def decode_pcm(pcm: bytes, channels: int) -> Audio:
    """Interleaved little-endian float32 as [channel, sample]."""
    return np.frombuffer(pcm, "<f4").reshape(-1, channels).T.astype(np.float32, order="C")


@dataclass
class Outgoing:
    """Numbers the blocks of one session: where the next one starts and which it is."""

    channels: int
    max_block: int
    position: int = 0
    sequence: int = 0

    def blocks(self, samples: ArrayLike, position: int | None = None) -> Iterator[pb.AudioBlock]:
        """`samples` [channel, sample] at `position` (None: after the last) in blocks that the server takes."""
        audio = as_audio(samples, self.channels)
        if position is not None:
            self.position = position
        for start in range(0, audio.shape[1], self.max_block):
            piece = audio[:, start : start + self.max_block]
            yield pb.AudioBlock(sequence=self.sequence, position=self.position, pcm=encode_pcm(piece))
            self.position += piece.shape[1]
            self.sequence += 1


def as_block(message: pb.AudioBlock, ports: Sequence[pb.OutputPort]) -> Block:
    port = ports[message.port]
    audio = decode_pcm(message.pcm, port.channels)
    return Block(port.name, message.position, audio, message.committed, message.sequence)


def as_frames(message: pb.CodecFrames) -> Frames:
    codes = np.array(message.codes, np.int64).reshape(-1, message.codebooks)
    return Frames(message.first_frame, codes, message.take)


@dataclass
class Incoming:
    """What a session's server has said: Ready, the newest ledger, warnings and totals."""

    ready: pb.Ready
    ledger: pb.Ledger = field(init=False)
    warnings: dict[str, pb.Warning] = field(default_factory=dict)  # the newest of each code
    totals: pb.Closed | None = None

    def __post_init__(self) -> None:
        self.ledger = self.ready.ledger

    def renew(self, ready: pb.Ready) -> None:
        """Another call has been answered."""
        self.ready, self.ledger = ready, ready.ledger

    def event(self, message: pb.ServerMessage) -> Event | None:
        """`message` as the caller sees it; None: nothing to see, the call's status says the rest."""
        match message.WhichOneof("message"):
            case "audio":
                return as_block(message.audio, self.ready.ports)
            case "frames":
                return as_frames(message.frames)
            case "text":
                return Text(message.text.name, message.text.text, message.text.position)
            case "dry":
                return Dry(message.dry.position, message.dry.samples)
            case "marker":
                return Marked(message.marker.id, message.marker.position)
            case "take":
                told = message.take
                return Take(told.position, told.heard_from, told.skipped, told.number)
            case "log":
                return LogLine(message.log.line)
            case "ledger":
                self.ledger = message.ledger
                return message.ledger
            case "warning":
                self.warnings[message.warning.code] = message.warning
                return message.warning
            case "closed":
                self.totals = message.closed
                return message.closed
        return None


class Rendering(dict[str, Audio]):
    """Port name to audio [channel, sample], each as long as the input, and what the server said about it."""

    def __init__(self, ready: pb.Ready, samples: int) -> None:
        super().__init__({port.name: np.zeros((port.channels, samples), np.float32) for port in ready.ports})
        self.samples = samples
        self.ready = ready
        self.totals = pb.Closed()
        self.warnings: dict[str, pb.Warning] = {}
        self.frames: list[Frames] = []
        self.takes: list[Take] = []  # that have begun on the way
        self.texts: list[Text] = []  # that have been set on the way, each from where it is in force
        self._ends = dict.fromkeys(self, 0)

    @property
    def progress(self) -> float:
        """The share that is done, 0 to 1, of the port that is behind most."""
        return min(self._ends.values(), default=0) / max(self.samples, 1)

    def take(self, event: Event) -> None:
        """Puts one answer where it belongs."""
        match event:
            case Block():
                self[event.port][:, event.position : event.end] = event.audio
                self._ends[event.port] = event.end
            case Frames():
                self.frames.append(event)
            case Text():
                self.texts.append(event)
            case Take():
                self.takes.append(event)
            case pb.Warning():
                self.warnings[event.code] = event
            case pb.Closed():
                self.totals = event
