"""DuoTok's language model: what goes into it, and what it decodes with, live and by the paper's protocol.

network = read_network(config, tensors)             # AlignedNetwork: both tracks
lm = LanguageModel(config, network, rows=2, backend="bfloat16")
lm.reset(0, seed=7)
tokens = lm.accompany([Cue(row=0, steps=12, vocals=..., lag=..., sampling=Sampling())])     # a chunk, live

continued(config, network, song[:, :50], frames=750, sampling, seed)          # both tracks, from 2 s of them
accompanied(config, network, vocals, prefix, sampling, seed)                  # 30 s under a voice, the first 2 s given
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backline.kernels.decode import DecodeStage
from backline.models.duotok.config import ACCOMPANIMENT, RATE, TRACKS, VOCALS, LmConfig
from backline.models.hafm.aligned.config import LOOKAHEAD
from backline.models.hafm.aligned.decode import TorchFrameStage, frame_arrays
from backline.models.hafm.aligned.network import AlignedNetwork, lag_token
from backline.models.hafm.band import MOST_TEMPERATURE, Backend
from backline.models.hafm.transport import BEAT_STEPS, transport_tokens
from backline.models.rows import check_tokens, together
from backline.models.stream import Transport
from backline.nn.weights import filled, part

PREFIX = "lm."
ON_TIME = Fraction(0)
TABLES = "tokens"  # the parameter that may be left out of a pack: those vectors are then the tokenizer's

Tokens = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: Annotated[float, Meta(ge=0, le=MOST_TEMPERATURE)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=65_536)] = 50  # 0: all
    top_p: Annotated[float, Meta(ge=0, le=1)] = 0.95  # 1: all


# ---- what goes in ----


def heard_at(vocals: Tokens, first: int, steps: int, lag: int, nothing: int) -> Tokens:
    """[step] the voice's tokens [frame] as steps `first`.. hear them: `lag` frames later; `nothing` where none is."""
    frame = np.arange(first, first + steps) - lag
    known = (frame >= 0) & (frame < len(vocals))
    if not len(vocals):
        return np.full(steps, nothing)
    return np.where(known, vocals[np.where(known, frame, 0)], nothing)


def before(tokens: Tokens, nothing: int) -> Tokens:
    """[.., step] the token of the step before; `nothing` before the first."""
    late = np.roll(tokens, 1, axis=-1)
    late[..., 0] = nothing
    return late


def lag_frames(lag: Fraction) -> int:
    """Frames that a voice is late by, of seconds. Rounded up: what is heard of in part has no token yet."""
    return math.ceil(lag * RATE)


@dataclass(frozen=True)
class Steps:
    """What goes into the network, and what it is judged by, of one row."""

    inputs: Tokens  # [track, step]
    sources: Mapping[str, Tokens]  # by name, [step]
    targets: Tokens  # [track, step]; -1: not judged


def accompanying(config: LmConfig, song: Tokens, lag: Fraction, beats: Tokens | None = None) -> Steps:
    """Voice to accompaniment, of a song [track, frame], -1 after its end.

    Args:
        lag: in the aligned layout, by which the voice is heard late.
        beats: [frame] tokens of BEAT; none: unknown.
    """
    nothing, frames = config.entries, song.shape[1]
    silent, unjudged = np.full(frames, nothing), np.full(frames, -1)
    vocals, band = np.where(song < 0, nothing, song)
    played = before(band, nothing)
    if config.layout == "paper":
        return Steps(
            np.stack([np.append(vocals, silent), np.append(silent, played)]),
            {"side": np.repeat([VOCALS, ACCOMPANIMENT], frames)},
            np.stack([np.append(unjudged, unjudged), np.append(unjudged, song[ACCOMPANIMENT])]),
        )
    heard = heard_at(vocals, 0, frames, lag_frames(lag), nothing)
    lag = Fraction(lag_frames(lag), RATE)
    sources = {"lag": np.full(frames, lag_token(lag)), "beat": _known(beats, frames)}
    return Steps(np.stack([heard, played]), sources, np.stack([unjudged, song[ACCOMPANIMENT]]))


def unconditional(config: LmConfig, song: Tokens, beats: Tokens | None = None) -> Steps:
    """Both tracks of a song [track, frame], -1 after its end, from all before (Eq. 24)."""
    sources = {source.name: np.full(song.shape[1], source.vocabulary) for source in config.stage.sources}
    return Steps(
        before(np.where(song < 0, config.entries, song), config.entries),
        {**sources, "beat": _known(beats, song.shape[1])},
        song,
    )


def embedded(network: AlignedNetwork, rows: Sequence[Steps]) -> Tensor:
    """[row, step, width] what goes into the transformer, of rows of equal length.

    Raises:
        ValueError: a token that is not there.
    """
    inputs = np.stack([row.inputs for row in rows])
    check_tokens(inputs, network.config.vocabulary + 1, "the language model")
    device = network.tokens.device
    known = []
    for source in network.config.sources:
        tokens = np.stack([row.sources[source.name] for row in rows])[:, None]
        check_tokens(tokens, source.vocabulary + 1, f"source {source.name!r}")
        known.append(torch.from_numpy(tokens.astype(np.int64)).to(device))
    told = torch.from_numpy(inputs.astype(np.int64)).to(device)
    return network.embed_conditions(known) + network.embed_tokens(told)


def _known(beats: Tokens | None, frames: int) -> Tokens:
    return np.full(frames, BEAT_STEPS + 1) if beats is None else beats


# ---- live ----


@dataclass(frozen=True)
class Cue:
    """What one row is given for one chunk."""

    row: int
    steps: int  # frames of the chunk
    vocals: Tokens  # [step] as heard_at gives them
    lag: Fraction  # seconds, whole frames
    sampling: Sampling
    transport: Transport | None = None
    first: int = 0  # frame of the session at which the chunk starts
    ahead: int = 0  # frames by which the song's time, by which is drawn, runs ahead of the session's


class LanguageModel:
    """Voice to accompaniment, chunk after chunk; every row's cache is carried along. Aligned networks only."""

    lookahead = LOOKAHEAD

    def __init__(self, config: LmConfig, network: AlignedNetwork, rows: int, backend: Backend) -> None:
        """
        Raises:
            ValueError: the layout is the paper's, which hears all of a voice before it plays.
        """
        if config.layout != "aligned":
            raise ValueError('a language model of layout "paper" hears a whole song first: it cannot play live')
        self.config, self.network = config, network.eval().requires_grad_(False)
        self.stage = _decoder(one_track(network, ACCOMPANIMENT), rows, backend)
        # Where the voice's tokens come in: E_v, through its part of W.
        self._enter = (network.tokens[VOCALS].detach(), network.enter[VOCALS].detach())

    def reset(self, row: int, seed: int) -> None:
        """Empties a row; its tokens will be drawn with `seed`."""
        self.stage.reset(row, seed)

    def accompany(self, cues: Sequence[Cue]) -> list[Tokens | Exception]:
        """Tokens [frame] for every cue, each row at most once, or what it failed of."""
        stage: Any = self.stage
        return together(cues, self._play, stage.snapshot, stage.restore)

    def kv_bytes(self) -> int:
        return self.stage.kv_bytes()

    def resident_bytes(self) -> int:
        return sum(p.nbytes for p in self.network.parameters()) + self.stage.resident_bytes()

    def _play(self, cues: Sequence[Cue]) -> list[Tokens]:
        most = max(cue.steps for cue in cues)
        conditions = np.zeros((len(cues), 1, most, self.config.width), np.float32)
        for condition, cue in zip(conditions, cues, strict=True):
            condition[0, : cue.steps] = self._conditions(cue)
            self.stage.draw_ahead(cue.row, cue.ahead)
        found = self.stage.generate_frames(
            [cue.row for cue in cues],
            conditions,
            steps=[cue.steps for cue in cues],
            temperature=[cue.sampling.temperature for cue in cues],
            top_k=[cue.sampling.top_k for cue in cues],
            top_p=[cue.sampling.top_p for cue in cues],
        )
        return [tokens[: cue.steps, 0].astype(np.int64) for tokens, cue in zip(found, cues, strict=True)]

    @torch.inference_mode()
    def _conditions(self, cue: Cue) -> Floats:
        """[step, width] of what is known in a chunk."""
        check_tokens(cue.vocals, self.config.entries + 1, "the voice")
        beats = transport_tokens(cue.transport, cue.first, cue.steps, RATE, BEAT_STEPS)
        told = {"lag": np.full(cue.steps, lag_token(cue.lag)), "beat": beats}
        table, enter = self._enter
        known = [
            torch.from_numpy(told[source.name][None, None]).to(table.device) for source in self.network.config.sources
        ]
        heard = F.embedding(torch.from_numpy(cue.vocals).to(table.device), table) @ enter
        return (self.network.embed_conditions(known)[0] + heard).float().cpu().numpy()


def one_track(network: AlignedNetwork, track: int) -> AlignedNetwork:
    """The network as one that takes in and predicts that track alone, of the same weights."""
    weights = network.state_dict()
    for name in ("tokens", "enter", "leave", "head_bias"):
        weights[name] = weights[name][track : track + 1]
    with torch.device("meta"):
        alone = AlignedNetwork(dataclasses.replace(network.config, delays=(0,)))
    alone.load_state_dict(weights, assign=True)
    return alone.eval().requires_grad_(False)


def _decoder(network: AlignedNetwork, rows: int, backend: Backend) -> DecodeStage | TorchFrameStage:
    if backend == "torch":
        return TorchFrameStage(network, rows, branches=1)
    return DecodeStage(frame_arrays(network), rows, network.config.window, backend, branches=1)


# ---- the paper's protocol ----


def accompanied(
    config: LmConfig,
    network: AlignedNetwork,
    vocals: Tokens,
    prefix: Tokens,
    sampling: Sampling,
    seed: int,
    backend: Backend = "float32",
    lag: Fraction = ON_TIME,
) -> Tokens:
    """The accompaniment [frame] of a whole voice [frame], which begins with `prefix` [frame].

    Args:
        lag: in the aligned layout, by which the voice is heard late, in seconds.
    """
    song = np.stack([vocals, np.append(prefix, np.zeros(len(vocals) - len(prefix), np.int64))])
    steps = accompanying(config, song, lag)
    first = steps.inputs.shape[1] - len(vocals)  # of [V | A], where A begins
    x = _conditions(network, steps, ACCOMPANIMENT)
    return _generated(one_track(network, ACCOMPANIMENT), x, first, prefix[None], sampling, seed, backend)[0]


def continued(
    config: LmConfig,
    network: AlignedNetwork,
    prefix: Tokens,
    frames: int,
    sampling: Sampling,
    seed: int,
    backend: Backend = "float32",
) -> Tokens:
    """A song [track, frame] of so many frames that begins with `prefix` [track, frame]."""
    steps = unconditional(config, np.zeros((len(TRACKS), frames), np.int64))
    return _generated(network, _conditions(network, steps), 0, prefix, sampling, seed, backend)


@torch.inference_mode()
def _conditions(network: AlignedNetwork, steps: Steps, *generated: int) -> Floats:
    """[step, width] all that goes in but the tokens of the tracks that are generated, or of all tracks."""
    inputs = steps.inputs.copy()
    inputs[list(generated) or slice(None)] = network.config.vocabulary
    whole = embedded(network, [dataclasses.replace(steps, inputs=inputs)])[0]
    silent = network.tokens[:, -1][:, None] @ network.enter  # what the decoder adds of a track before it began
    for track in generated or range(len(TRACKS)):
        whole = whole - silent[track]
    return whole.cpu().numpy()


def _generated(
    network: AlignedNetwork, x: Floats, first: int, prefix: Tokens, sampling: Sampling, seed: int, backend: Backend
) -> Tokens:
    """[track, frame] under conditions x [step, width], of which step `first` is the first that predicts.

    What is given of the tracks, `prefix` [track, frame], goes in as if it had been drawn.
    """
    stage = _decoder(network, 1, backend)
    stage.reset(0, seed)
    given = prefix.shape[1]
    with torch.inference_mode():
        silent = np.full((len(prefix), first), network.config.vocabulary)
        told = np.append(silent, before(prefix, network.config.vocabulary) if given else prefix, axis=1)
        spoken = network.embed_tokens(torch.from_numpy(told)[None].to(network.tokens.device))[0].cpu().numpy()
    stage.prefill([0], (x[: first + given] + spoken)[None, None])
    state: Any = stage.snapshot(0)
    last: Any = prefix[:, -1] if given else np.zeros(len(prefix), np.int64)
    if isinstance(stage, TorchFrameStage):
        last = torch.from_numpy(last if given else np.full(len(prefix), network.config.vocabulary))
    stage.restore(0, dataclasses.replace(state, predicted=given, last=last))
    found = stage.generate_frames(
        [0],
        x[None, None, first + given :],
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
    )
    return np.append(prefix, found[0].T.astype(np.int64), axis=1)


# ---- weights ----


def read_network(config: LmConfig, tensors: Mapping[str, Tensor], tables: Tensor | None = None) -> AlignedNetwork:
    """The network with the tensors named `lm.`…, in float32.

    Args:
        tables: [track, entry, code_width] the tokenizer's vectors, for weights that were learnt with them.
    Raises:
        ValueError: names every tensor that is missing, unknown, of another shape or type, or not finite.
    """
    given = dict(part(tensors, PREFIX))
    if TABLES not in given and tables is not None:
        given[TABLES] = with_nothing(tables)
    return filled(lambda: AlignedNetwork(config.stage), given, PREFIX).eval()


def with_nothing(tables: Tensor) -> Tensor:
    """[track, entry + 1, code_width] with zeros for what is not there, and as far from zero as the network expects.

    Args:
        tables: [track, entry, code_width] a tokenizer's vectors.
    """
    vectors = tables.float() - tables.float().mean(dim=1, keepdim=True)
    return F.pad(vectors / vectors.std(dim=(1, 2), keepdim=True), (0, 0, 0, 1))
