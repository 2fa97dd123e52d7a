"""Between the messages of the contract and the engine's own types; nothing is decided here that both do not say."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from backline.engine import errors
from backline.engine.advice import Advice, Verdict
from backline.engine.events import Frames, Marked, OutputBlock, Skipped, TakeBegan, TextInForce, Totals, Warned
from backline.engine.ledger import Ledger
from backline.engine.session import Session
from backline.models.stream import (
    Audio,
    ChannelLayout,
    Codebook,
    Codes,
    Input,
    LatencyItem,
    Port,
    SessionConfig,
    StreamSpec,
)
from backline.packs.registry import PackEntry, PackState
from backline_protos.v1 import backline_pb2 as pb

STATES = {
    PackState.AVAILABLE: pb.PACK_STATE_AVAILABLE,
    PackState.RESIDENT: pb.PACK_STATE_RESIDENT,
    PackState.DAMAGED: pb.PACK_STATE_DAMAGED,
}
LAYOUTS = {
    pb.CHANNEL_LAYOUT_UNSPECIFIED: None,
    pb.CHANNEL_LAYOUT_DISCRETE: ChannelLayout.DISCRETE,
    pb.CHANNEL_LAYOUT_MONO: ChannelLayout.MONO,
    pb.CHANNEL_LAYOUT_STEREO: ChannelLayout.STEREO,
    pb.CHANNEL_LAYOUT_5_1: ChannelLayout.SURROUND_5_1,
    pb.CHANNEL_LAYOUT_7_1: ChannelLayout.SURROUND_7_1,
}
FINEST = 1_000_000  # denominator: times on the wire are doubles, and mean the simple fraction next to them


# ---- from the wire -----------------------------------------------------------------------------------


def session_config(opening: pb.Open, spec: StreamSpec, offline: bool) -> SessionConfig:
    """What a session asks for, with the model's defaults for what it leaves open; the engine checks the values."""
    chunk = spec.default_chunk_seconds
    if opening.HasField("chunk_seconds"):
        if not np.isfinite(opening.chunk_seconds):
            raise errors.BadInput(f"chunk is {opening.chunk_seconds} s: use a number of seconds")
        chunk = Fraction(opening.chunk_seconds).limit_denominator(FINEST)
    visibility = spec.visibility(chunk)
    if opening.HasField("visibility_seconds"):
        visibility = opening.visibility_seconds
    if opening.channel_layout not in LAYOUTS:
        raise errors.BadInput(
            f"channel layout {opening.channel_layout} is none of {', '.join(pb.ChannelLayout.keys())}"
        )
    return SessionConfig(
        sample_rate=opening.sample_rate,
        channels=opening.channels,
        chunk_seconds=chunk,
        visibility_seconds=visibility,
        seed=opening.seed if opening.HasField("seed") else secrets.randbits(64),
        parameters=dict(opening.parameters),
        offline=offline,
        channel_layout=LAYOUTS[opening.channel_layout],
        inputs=tuple(Input(group.name, group.channels) for group in opening.inputs),
        texts=dict(opening.texts),
        task=opening.task,
        want_audio=opening.want_audio if opening.HasField("want_audio") else True,
    )


def read_codes(frames: pb.CodecFrames) -> Codes:
    """The codes [frame, codebook] of a message.

    Raises:
        BadInput: they are not whole frames of that many codebooks.
    """
    codes, codebooks = np.array(frames.codes, np.int64), frames.codebooks
    if not codebooks or codes.size % codebooks:
        raise errors.BadInput(f"{codes.size} codes of {codebooks} codebooks: send whole frames, [frame, codebook]")
    if codes.size and codes.max() > np.iinfo(np.int32).max:
        raise errors.BadInput(f"code {codes.max()}: no codebook has so many entries")
    return codes.astype(np.int32).reshape(-1, codebooks)


def read_pcm(pcm: bytes, channels: int) -> Audio:
    """Interleaved little-endian float32 as a view [channel, sample].

    Raises:
        BadInput: the bytes are not whole samples of every channel.
    """
    if len(pcm) % (4 * channels):
        raise errors.BadInput(
            f"pcm holds {len(pcm)} bytes: send float32 of {channels} interleaved channels, a multiple of {4 * channels}"
        )
    return np.frombuffer(pcm, "<f4").reshape(-1, channels).T


# ---- to the wire -------------------------------------------------------------------------------------


def ready(session: Session) -> pb.Ready:
    """What a client is told of its session; parameters and texts are those in force."""
    changes = session.take.changes
    return pb.Ready(
        session=session.id,
        token=session.token,
        seed=session.config.seed,
        ports=output_ports(session.ports),
        ledger=ledger(session.ledger),
        chunk_seconds=float(session.config.chunk_seconds),
        visibility_seconds=session.config.visibility_seconds,
        parameters=changes.parameters,
        max_block=session.block_size,
        texts={name: prepared.text for name, prepared in changes.texts.items()},
        task=session.spec.tasks[0].name if session.spec.tasks else "",
    )


def audio_block(block: OutputBlock) -> pb.AudioBlock:
    return pb.AudioBlock(
        sequence=block.sequence,
        position=block.position,
        pcm=block.audio.T.astype("<f4", order="C", copy=False).tobytes(),
        port=block.port,
        committed=block.committed,
    )


def codec_frames(frames: Frames) -> pb.CodecFrames:
    return pb.CodecFrames(
        first_frame=frames.first_frame,
        codebooks=frames.codes.shape[1],
        codes=frames.codes.ravel().tolist(),
        take=frames.take,
    )


def dry(skipped: Skipped) -> pb.Dry:
    return pb.Dry(position=skipped.position, samples=skipped.samples)


def marker(marked: Marked) -> pb.Marker:
    return pb.Marker(id=marked.id, position=marked.position)


def take(began: TakeBegan) -> pb.Take:
    return pb.Take(position=began.position, heard_from=began.heard_from, skipped=began.skipped, number=began.number)


def text_in_force(told: TextInForce) -> pb.Text:
    return pb.Text(name=told.name, text=told.text, position=told.position)


def warning(warned: Warned) -> pb.Warning:
    return pb.Warning(code=warned.code, message=warned.message, count=warned.count, position=warned.position)


def closed(totals: Totals) -> pb.Closed:
    return pb.Closed(
        samples_in=totals.samples_in,
        samples_out=totals.samples_out,
        chunks=totals.chunks,
        late_chunks=totals.late_chunks,
        compute_seconds=totals.compute_seconds,
    )


def ledger(book: Ledger) -> pb.Ledger:
    return pb.Ledger(
        items=ledger_items(book.items), total_seconds=book.total_seconds, latency_samples=book.latency_samples
    )


def ledger_items(items: Iterable[LatencyItem]) -> list[pb.LedgerItem]:
    return [
        pb.LedgerItem(name=item.name, seconds=item.seconds, measured=item.measured, explanation=item.explanation)
        for item in items
    ]


def output_ports(ports: Iterable[Port]) -> list[pb.OutputPort]:
    return [pb.OutputPort(name=port.name, channels=port.channels, description=port.description) for port in ports]


def codebooks(books: Iterable[Codebook], spec: StreamSpec) -> list[pb.Codebook]:
    rate = float(spec.frame_rate)
    return [pb.Codebook(name=book.name, size=book.size, rate=rate, track=book.track) for book in books]


def pack(entry: PackEntry) -> pb.Pack:
    """A pack as it lies on disk; what only a resident one knows is left to the caller."""
    message = pb.Pack(name=entry.name, state=STATES[entry.state], problem=entry.problem)
    if entry.pack is not None:
        message.version, message.family = entry.pack.version, entry.pack.family
        message.description, message.license = entry.pack.description, entry.pack.license
        message.digest = entry.pack.digest
    if entry.spec is not None:
        spec = entry.spec
        message.model_rate = spec.output_rate or 0
        message.ports.extend(output_ports(spec.ports))
        message.parameters.extend(
            pb.Parameter(
                name=parameter.name,
                default_value=parameter.default,
                minimum=parameter.minimum,
                maximum=parameter.maximum,
                unit=parameter.unit,
                description=parameter.description,
                integer=parameter.integer,
                automatable=parameter.automatable,
                labels=parameter.labels,
            )
            for parameter in spec.parameters
        )
        message.inputs.extend(
            pb.PackInput(name=group.name, channels=group.channels, description=group.description)
            for group in spec.inputs
        )
        message.texts.extend(
            pb.PackText(
                name=text.name, default_value=text.default, description=text.description, suggestions=text.suggestions
            )
            for text in spec.texts
        )
        message.takes_notes = spec.takes_notes
        message.codebooks.extend(codebooks(spec.codebooks, spec))
        message.takes.extend(codebooks(spec.takes, spec))
        if entry.pack is not None and (spec.codebooks or spec.takes):
            message.tokenizer = entry.pack.tokenizer(spec.tokenizer)
        message.tasks.extend(
            pb.Task(
                name=task.name,
                description=task.description,
                ports=task.ports,
                inputs=task.inputs,
                texts=task.texts,
                parameters=task.parameters,
                takes=task.takes,
            )
            for task in spec.tasks
        )
        message.chunk_quantum_seconds = float(spec.chunk_quantum_seconds)
        message.default_chunk_seconds = float(spec.default_chunk_seconds)
        message.maximum_chunk_seconds = float(spec.maximum_chunk_seconds)
        message.default_visibility_seconds = spec.visibility(spec.default_chunk_seconds)
        message.minimum_visibility_seconds = spec.minimum_visibility_seconds
        message.lookahead_seconds = spec.lookahead_seconds
        message.frame_rate = float(spec.frame_rate)
        message.metres.extend(spec.metre_names)
    return message


VERDICTS = {
    Verdict.SAFE: pb.VERDICT_SAFE,
    Verdict.TIGHT: pb.VERDICT_TIGHT,
    Verdict.INFEASIBLE: pb.VERDICT_INFEASIBLE,
}


def advice(given: Advice) -> pb.Advice:
    return pb.Advice(
        verdict=VERDICTS[given.verdict],
        chunk_seconds=float(given.chunk_seconds),
        visibility_seconds=given.visibility_seconds,
        latency_seconds=given.latency_seconds,
        reason=given.reason,
    )


def session(playing: Session, now: float) -> pb.Session:
    """An open session; `now` by the engine's clock."""
    totals, config = playing.totals, playing.config
    return pb.Session(
        id=playing.id,
        pack=playing.stream_name,
        client_name=playing.client_name,
        state=playing.phase,
        sample_rate=config.sample_rate,
        channels=config.channels,
        mode=pb.MODE_OFFLINE if config.offline else pb.MODE_LIVE,
        age_seconds=now - playing.opened_at,
        samples_in=totals.samples_in,
        samples_out=totals.samples_out,
        chunks=totals.chunks,
        late_chunks=totals.late_chunks,
        realtime_factor=playing.realtime_factor,
        ledger=ledger(playing.ledger),
        lease_left_seconds=0.0 if playing.detached_until is None else max(0.0, playing.detached_until - now),
    )
