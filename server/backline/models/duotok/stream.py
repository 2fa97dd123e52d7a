"""DuoTok live: both tracks of a song as tokens, sound of tokens, and a band that answers a voice in them.

    accompany      a voice in -> its tokens -> the language model's -> sound
    resynthesis    both tracks in -> their tokens -> sound
    tokens         both tracks in -> their tokens, and no sound
    render         tokens that the client sends -> sound

Frames are [voice, accompaniment], 25 a second, in all tasks alike: one machine may sing, another render. Where there is
sound, frames run `guard` ahead of it, which the renderers hear beyond a chunk (codecs/duotok/windowed.py); a session
that wants no audio, or whose task has none, is spared the guard and what rendering costs. The band's frames are told
when the voice's are known, too: at once, unless it plays ahead of the voice.

The band's lag is what a chunk lacks of its visibility, the guard included (lm.py); with all of it the voice is heard in
time. Everything that belongs to one session alone runs row by row; within the language model all rows share one pass
over its weights, and on a GPU within the renderers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta

from backline.codecs.duotok.config import ROLES, DuoTokConfig, Role
from backline.codecs.duotok.renderer import RendererConfig
from backline.codecs.duotok.stream import TokenStream, token_stream
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.codecs.duotok.windowed import Asked, Pace, State, WindowedRenderer
from backline.codecs.vae.config import Vae
from backline.kernels.resample import Resampler
from backline.models.duotok.config import RATE, TRACKS, VOCALS, LmConfig
from backline.models.duotok.lm import Cue, LanguageModel, Sampling, Tokens, heard_at, lag_frames
from backline.models.hafm.aligned.config import LONGEST_LAG, LOOKAHEAD
from backline.models.hafm.band import MOST_TEMPERATURE
from backline.models.hafm.transport import song_ahead
from backline.models.rows import check_tokens, each, free_row, one_by_one, together
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    Codebook,
    Input,
    LatencyItem,
    Parameter,
    Port,
    RowBytes,
    RowFailed,
    SessionConfig,
    StreamSpec,
    Task,
)
from backline.models.warm_up import warmed_up
from backline.nn.streaming import state_bytes
from backline.nn.tables import Seconds

CAPACITY = 8  # sessions at once
WARM_UP_CHUNKS = 3  # that are timed
MOST_STEPS = 250
FURTHEST_AHEAD = 2  # seconds that a band may play ahead of what it has heard
DESCRIPTIONS = {
    "accompany": "plays a band around a voice",
    "resynthesis": "plays both tracks as their tokens have them",
    "tokens": "tells both tracks' tokens, and plays nothing",
    "render": "plays the tokens that it is sent",
}


@dataclass(frozen=True)
class DuoSettings:
    """The [stream] table of pack.toml: how a pack is played where a session does not say."""

    chunk_seconds: Seconds = Fraction(4, 5)
    guard_seconds: Seconds = Fraction(12, 25)  # what a VAE of 12.5 frames a second reaches into, and more
    fade_seconds: Seconds = Fraction(1, 25)
    steps: Annotated[int, Meta(ge=1, le=MOST_STEPS)] = 4  # of denoising
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def guard(self) -> int:
        """In frames."""
        return int(self.guard_seconds * RATE)


@dataclass(frozen=True)
class Painting:
    """What is known of a pack's renderers without their weights."""

    sample_rate: int
    channels: int
    pace: Fraction  # tokens of a latent frame
    most: int  # latent frames that a window holds beside what the decoder reaches into

    @classmethod
    def of(cls, config: RendererConfig, vae: Vae) -> Painting:
        most = config.window_frames - vae.decode_reach[0]
        return cls(vae.sample_rate, vae.channels, Fraction(config.tokens, config.frames), most)


@dataclass
class Row:
    """One session. Frames are counted from its start."""

    task: str
    seed: int
    chunk: int  # frames
    guard: int  # frames by which tokens run ahead of sound
    visibility: Fraction  # seconds
    hearing: Any  # state of the encoder, of as many tracks as come in
    heard: Tokens  # [track, frame] that came in, of frames from `heard_from` on
    made: Tokens  # [frame] of the band's, from `told` on
    sounding: dict[Role, State]
    dry: Dry | None = None  # plays the voice as it came in
    chunks: int = 0  # that have been played
    fed: int = 0  # frames that the encoder has had
    heard_from: int = 0
    told: int = 0  # frames that have been given out

    @property
    def end(self) -> int:
        """The frame at which the tokens of the next chunk end."""
        return (self.chunks + 1) * self.chunk + self.guard

    @property
    def begin(self) -> int:
        """And that at which they begin."""
        return self.end - self.chunk if self.chunks else 0

    @property
    def lag(self) -> int:
        """Frames by which a band hears the voice late."""
        return lag_frames(Fraction(self.chunk + self.guard, RATE) - self.visibility)

    @property
    def visible(self) -> int:
        """Frames of the input that the next chunk hears."""
        if self.task == "accompany":
            return max(0, self.end - self.lag)
        return 0 if self.task == "render" else self.end


class Dry:
    """A session's voice at the renderers' rate, in step with what is rendered."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self._resampler = Resampler(rate_in, rate_out, 1)
        self._lead, self._channels = self._resampler.delay_out, channels
        self._held: Audio = np.zeros((1, 0), np.float32)

    def hear(self, audio: Audio) -> None:
        """[1, sample] that came in."""
        converted = self._resampler.process(audio)
        lead = min(self._lead, converted.shape[1])
        self._lead -= lead
        self._held = np.concatenate([self._held, converted[:, lead:]], axis=1)

    def play(self, count: int) -> Audio:
        """[channel, sample] the next ones."""
        sound, self._held = self._held[:, :count], self._held[:, count:].copy()
        return np.repeat(sound, self._channels, axis=0)

    @property
    def nbytes(self) -> int:
        return self._held.nbytes


class DuoStream:
    """A `Stream` and `TokenStream` (models/stream.py)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        renderers: Mapping[Role, WindowedRenderer],
        lm: LanguageModel | None,
        settings: DuoSettings,
        device: str,
        capacity: int = CAPACITY,
    ) -> None:
        """
        Args:
            renderers: of both tracks, or none.
            lm: with a row more than sessions at once, for warming up.
        """
        self.tokenizer, self.renderers, self.lm, self.settings = tokenizer, renderers, lm, settings
        self.device, self.capacity = device, capacity
        renderer = next(iter(renderers.values()), None)
        self.painting = None if renderer is None else Painting.of(renderer.config, renderer.vae)
        self.spec = make_spec(tokenizer.config, settings, self.painting, lm is not None)
        self._pair, self._voice = token_stream(tokenizer), token_stream(tokenizer, ROLES[:1])
        self._defaults = self.spec.defaults
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = free_row(self._rows, self.capacity)
        self._start(free, config)
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        state = self._rows[row]
        if not state.visible:
            return 0
        return (state.visible + self._ears(state.task).delay) * self.tokenizer.config.samples_per_token

    def required_frames(self, row: int) -> int:
        state = self._rows[row]
        return state.end if state.task == "render" else 0

    @torch.inference_mode()
    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        failed: dict[int, Exception] = {}
        heard = each(lambda given: self._hear(self._rows[given.row], given), inputs)
        failed |= {given.row: told for given, told in zip(inputs, heard, strict=True) if isinstance(told, Exception)}
        going = [given for given in inputs if given.row not in failed]
        led = [given for given in going if self._rows[given.row].task == "accompany"]
        failed |= self._answer(led)
        going = [given for given in going if given.row not in failed]
        sounds: dict[int, dict[str, Audio]] = {given.row: {} for given in going}
        for role in ROLES:
            failed |= self._render(role, [given for given in going if given.row not in failed], sounds)

        def played(given: ChunkInput) -> ChunkOutput:
            if given.row in failed:
                raise failed[given.row]
            return self._played(given.row, sounds[given.row])

        return one_by_one(inputs, played)

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        row = self._row(config)
        ears = self._ears(row.task)
        front_end = LatencyItem("front_end", ears.delay / RATE, "look-ahead of the tokenizer")
        if row.task == "accompany":
            visible = (row.chunk + row.guard - row.lag) / RATE
            waits = 0.0 if config.want_audio else max(0, row.lag) / RATE
            return (
                front_end,
                LatencyItem("visibility", visible, "newest input that a chunk hears, from its start"),
                LatencyItem("codec", waits, "the band's frames wait for the voice's"),
            )
        chunk = LatencyItem("visibility", row.chunk / RATE, "a chunk itself")
        guard = LatencyItem("codec", row.guard / RATE, "what the renderers hear beyond a chunk")
        return (chunk, guard) if row.task == "render" else (front_end, chunk, guard)

    def warm_up(self, config: SessionConfig) -> float:
        row = self.capacity
        self._start(row, config)
        # A chunk of a band costs most when the language model's window is full.
        full = self.lm is not None and self._rows[row].task == "accompany"
        chunks = math.ceil(self.lm.config.window / self._rows[row].chunk) if full and self.lm is not None else 1
        try:
            return warmed_up(self, row, config, chunks=chunks, timed=WARM_UP_CHUNKS, device=self.device)
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        modules: list[Any] = [self.tokenizer, *(renderer.renderer.network for renderer in self.renderers.values())]
        modules += {id(renderer.vae): renderer.vae for renderer in self.renderers.values()}.values()  # often one
        weights = sum(p.nbytes for module in modules for p in module.parameters())
        rows = sum(self.row_bytes(row).other for row in tuple(self._rows))
        return weights + rows + (self.lm.resident_bytes() if self.lm else 0)

    def row_bytes(self, row: int) -> RowBytes:
        playing = self._rows.get(row)
        if playing is None:
            return RowBytes()
        other = sum(state.nbytes for state in playing.sounding.values()) + (playing.dry.nbytes if playing.dry else 0)
        kv = self.lm.kv_bytes() if self.lm and playing.task == "accompany" else 0
        return RowBytes(kv, other + state_bytes(playing.hearing) + playing.heard.nbytes + playing.made.nbytes)

    # ---- rows ----

    def _start(self, row: int, config: SessionConfig) -> None:
        self._rows[row] = self._row(config)
        if self.lm is not None and self._rows[row].task == "accompany":
            self.lm.reset(row, config.seed)

    def _row(self, config: SessionConfig) -> Row:
        """A session at its start.

        Raises:
            ValueError: its chunk is no whole number of frames, or longer than the renderers' window.
        """
        spec = self.spec.for_task(config.task)
        task = spec.tasks[0].name
        chunk = config.chunk_seconds * RATE
        if chunk.denominator != 1:
            raise ValueError(f"a chunk of {config.chunk_seconds} s is no whole number of frames of {1 / RATE:g} s")
        painting = self.painting if config.want_audio and spec.ports else None
        tracks = len(spec.inputs)
        row = Row(
            task=task,
            seed=config.seed,
            chunk=int(chunk),
            guard=self.settings.guard if painting else 0,
            visibility=Fraction(config.visibility_seconds).limit_denominator(10**6),
            hearing=self._ears(task).init_state(tracks) if tracks else None,
            heard=np.zeros((tracks or len(TRACKS), 0), np.int64),
            made=np.zeros(0, np.int64),
            sounding={},
        )
        if painting is not None:
            hop, guard = row.chunk / painting.pace, row.guard / painting.pace
            if hop.denominator != 1:
                raise ValueError(f"a chunk of {config.chunk_seconds} s is no whole number of the renderers' frames")
            pace = Pace(int(hop), int(guard), int(self.settings.fade_seconds * painting.sample_rate))
            playing = {port.name for port in spec.ports}
            if task == "resynthesis" and config.parameters.get("dry"):
                playing.discard(ROLES[VOCALS])
                row.dry = Dry(self.tokenizer.config.sample_rate, painting.sample_rate, painting.channels)
            row.sounding = {
                role: self.renderers[role].begin(pace, (config.seed + at) % 2**64)
                for at, role in enumerate(ROLES)
                if role in playing
            }
        return row

    def _ears(self, task: str) -> TokenStream:
        return self._voice if task == "accompany" else self._pair

    # ---- a chunk's way ----

    def _hear(self, row: Row, given: ChunkInput) -> None:
        """What comes in becomes tokens."""
        if row.task == "render":
            frames = np.zeros((0, len(TRACKS)), np.int64) if given.frames is None else given.frames.astype(np.int64)
            check_tokens(frames, self.tokenizer.config.entries, "the frames")
            # What a sender that has ended still owes is as the last it sent.
            missing = row.end - row.heard_from - row.heard.shape[1] - len(frames)
            held = np.concatenate([row.heard.T.reshape(-1, len(TRACKS)), frames])
            last = held[-1:] if len(held) else np.zeros((1, len(TRACKS)), np.int64)
            row.heard = np.concatenate([held, np.repeat(last, max(0, missing), axis=0)]).T
            return
        if not given.audio.shape[1]:
            return
        if row.dry is not None:
            row.dry.hear(given.audio[VOCALS : VOCALS + 1])
        ears = self._ears(row.task)
        x = torch.from_numpy(np.ascontiguousarray(given.audio))[:, None].to(self.device)
        tokens, row.hearing = ears.step(x, row.hearing)
        before_start = max(0, ears.delay - row.fed)
        row.fed += tokens.shape[1]
        row.heard = np.concatenate([row.heard, tokens[:, before_start:].cpu().numpy()], axis=1)

    def _answer(self, led: Sequence[ChunkInput]) -> dict[int, Exception]:
        """The language model's tokens of every row that has a voice; what failed, by row."""
        if self.lm is None or not led:
            return {}
        told = each(self._cue, led)
        failed = {given.row: cue for given, cue in zip(led, told, strict=True) if isinstance(cue, Exception)}
        cues = [cue for cue in told if isinstance(cue, Cue)]
        for cue, tokens in zip(cues, self.lm.accompany(cues), strict=True):
            if isinstance(tokens, Exception):
                failed[cue.row] = tokens
            else:
                row = self._rows[cue.row]
                row.made = np.concatenate([row.made, tokens])
        return failed

    def _cue(self, given: ChunkInput) -> Cue:
        row, values = self._rows[given.row], {**self._defaults, **given.parameters}
        steps = row.end - row.begin
        return Cue(
            row=given.row,
            steps=steps,
            vocals=heard_at(
                row.heard[VOCALS], row.begin - row.heard_from, steps, row.lag, self.tokenizer.config.entries
            ),
            lag=Fraction(row.lag, RATE),
            sampling=Sampling(values["temperature"], int(values["top_k"]), values["top_p"]),
            transport=given.transport,
            first=row.begin,
            ahead=round(song_ahead(given.transport) * RATE),
        )

    def _render(
        self, role: Role, going: Sequence[ChunkInput], sounds: dict[int, dict[str, Audio]]
    ) -> dict[int, Exception]:
        """A track's sound of every row that plays it, into `sounds`; what failed, by row."""
        playing = [given for given in going if role in self._rows[given.row].sounding]
        if not playing:
            return {}
        renderer, failed = self.renderers[role], {}
        asked = [self._asked(role, given) for given in playing]
        for it, told in zip(asked, together(asked, renderer.step), strict=True):
            if isinstance(told, Exception):
                failed[it.row] = told
                continue
            state, sounds[it.row][role] = told
            # Samples that no recording has may leave what is no number, which the past would hand on for ever.
            finite = bool(state.latents.isfinite().all())
            row = self._rows[it.row]
            row.sounding[role] = state if finite else renderer.begin(state.pace, state.seed)
        return failed

    def _asked(self, role: Role, given: ChunkInput) -> Asked:
        row = self._rows[given.row]
        steps = int(given.parameters.get("steps", self._defaults["steps"]))
        return Asked(given.row, row.sounding[role], self._tokens(row, ROLES.index(role)), steps)

    def _tokens(self, row: Row, track: int) -> Tokens:
        """Those of the chunk at hand [frame]."""
        if row.task == "accompany":
            return row.made[row.begin - row.told :]
        first = row.begin - row.heard_from
        return row.heard[track, first : first + row.end - row.begin]

    def _played(self, index: int, sounds: Mapping[str, Audio]) -> ChunkOutput:
        row = self._rows[index]
        ports = self.spec.for_task(row.task).ports
        samples = row.chunk * (self.spec.output_rate or 0) // RATE
        position = row.chunks * samples
        audio: tuple[Audio, ...] = (np.zeros((0, samples), np.float32),)  # of no port
        if row.sounding:
            audio = tuple(
                row.dry.play(samples) if row.dry and port.name == ROLES[VOCALS] else sounds[port.name] for port in ports
            )
        first, frames = row.told, self._whole_frames(row)
        row.chunks += 1
        # What no later chunk asks for is let go.
        keep = min(row.begin - row.lag, row.told) if row.task == "accompany" else row.begin
        gone = min(max(0, keep - row.heard_from), row.heard.shape[1])
        row.heard, row.heard_from = row.heard[:, gone:], row.heard_from + gone
        return ChunkOutput(index, position, audio, first, frames.T.astype(np.int32))

    def _whole_frames(self, row: Row) -> Tokens:
        """[track, frame] of which both tracks are known and which have not been told."""
        first = row.told - row.heard_from
        if row.task == "accompany":
            count = min(row.heard.shape[1] - first, len(row.made))
            found = np.stack([row.heard[VOCALS, first : first + count], row.made[:count]])
            row.made = row.made[count:]
        else:
            found = row.heard[:, first : row.end - row.heard_from]
        row.told += found.shape[1]
        return found


def make_spec(tokenizer: DuoTokConfig, settings: DuoSettings, painting: Painting | None, led: bool) -> StreamSpec:
    """What a pack with such parts takes and gives; `led`: whether it has a language model."""
    sampling = settings.sampling
    parameters = (
        Parameter("temperature", sampling.temperature, 0.0, MOST_TEMPERATURE, "x", "of the band's choices; 0: none"),
        Parameter("top_k", sampling.top_k, 0, tokenizer.entries, "", "tokens it chooses from; 0: all", integer=True),
        Parameter("top_p", sampling.top_p, 0.0, 1.0, "", "the probability that those make; 1: all"),
        Parameter("steps", settings.steps, 1, MOST_STEPS, "", "of rendering: more are richer and cost more", True),
        Parameter(
            "dry", 0, 0, 1, "", "whether the voice is played as it came in", True, False, labels=("rendered", "dry")
        ),
    )
    drawn, painted = ("temperature", "top_k", "top_p"), ("steps",)
    codebooks = tuple(Codebook(track, tokenizer.entries, track) for track in TRACKS)
    voice, band = TRACKS
    tasks = [Task("tokens", DESCRIPTIONS["tokens"], inputs=TRACKS)]
    if painting is not None:
        tasks = [
            Task("resynthesis", DESCRIPTIONS["resynthesis"], TRACKS, TRACKS, parameters=("steps", "dry")),
            *tasks,
            Task("render", DESCRIPTIONS["render"], TRACKS, parameters=painted, takes=TRACKS),
        ]
    if led:
        ports, own = ((band,), (*drawn, *painted)) if painting is not None else ((), drawn)
        tasks = [Task("accompany", DESCRIPTIONS["accompany"], ports, (voice,), parameters=own), *tasks]
    used = {name for task in tasks for name in task.parameters}
    quantum = Fraction(max(Fraction(1), painting.pace) if painting else 1, RATE)
    longest = LONGEST_LAG - FURTHEST_AHEAD - settings.guard_seconds
    if painting is not None:
        longest = min(longest, painting.most * painting.pace / RATE - settings.guard_seconds)
    return StreamSpec(
        input_rate=tokenizer.sample_rate,
        output_rate=painting.sample_rate if painting else tokenizer.sample_rate,
        input_channels=len(TRACKS),
        ports=tuple(Port(track, painting.channels, f"the {track}") for track in TRACKS) if painting else (),
        parameters=tuple(parameter for parameter in parameters if parameter.name in used),
        frame_rate=Fraction(RATE),
        chunk_quantum_seconds=quantum,
        default_chunk_seconds=settings.chunk_seconds,
        maximum_chunk_seconds=longest // quantum * quantum,
        default_visibility_seconds=float(settings.chunk_seconds + settings.guard_seconds),
        minimum_visibility_seconds=-float(FURTHEST_AHEAD),
        lookahead_seconds=float(LOOKAHEAD),
        inputs=(Input(voice, 1, "who sings"), Input(band, 1, "who plays")),
        codebooks=codebooks,
        takes=codebooks if painting else (),
        tokenizer=("tokenizer",),
        tasks=tuple(tasks),
    )


def live_table(painting: Painting) -> dict[str, Any]:
    """The [stream] table of a pack with such renderers: the usual chunk and guard, as far as a window holds them."""
    quantum, usual = max(Fraction(1), painting.pace) / RATE, DuoSettings()
    room = painting.most * painting.pace / RATE
    wanted = {"chunk_seconds": (usual.chunk_seconds, room / 2), "guard_seconds": (usual.guard_seconds, room / 8)}
    found = {name: max(quantum, min(seconds) // quantum * quantum) for name, seconds in wanted.items()}
    return {name: str(seconds) for name, seconds in found.items()}


def problems(tokenizer: DuoTokConfig, lm: LmConfig | None, renderer: RendererConfig | None, painting: Painting | None,
             settings: DuoSettings) -> list[str]:  # fmt: skip
    """What keeps a pack's parts from working together, a sentence each; mostly nothing."""
    found = []
    if tokenizer.frame_rate != RATE:
        found.append(f"[tokenizer] gives {float(tokenizer.frame_rate):g} tokens a second: this family plays {RATE}")
    if lm is not None and lm.entries != tokenizer.entries:
        found.append(f"[lm] knows {lm.entries} tokens, the tokenizer has {tokenizer.entries}")
    if lm is not None and lm.layout != "aligned":
        found.append(f'[lm] has the layout "{lm.layout}", which hears a whole song first: it cannot play live')
    if renderer is not None and renderer.code_dim != tokenizer.code_dim:
        found.append(
            f"[renderer] is told {renderer.code_dim} dimensions of a token, its tokenizer has {tokenizer.code_dim}"
        )
    quantum = Fraction(max(Fraction(1), painting.pace) if painting else 1, RATE)
    for name in ("chunk_seconds", "guard_seconds"):
        seconds = getattr(settings, name)
        if not seconds or seconds % quantum:
            found.append(f"[stream] {name} is {seconds} s: use a multiple of {quantum} s")
    if painting is not None and not 1 / Fraction(painting.sample_rate) <= settings.fade_seconds <= quantum:
        found.append(  # the shortest chunk that a session may ask for
            f"[stream] fade_seconds is {settings.fade_seconds} s: use more than 0, and {quantum} at most"
        )
    if (
        not found
        and settings.chunk_seconds > make_spec(tokenizer, settings, painting, lm is not None).maximum_chunk_seconds
    ):
        found.append(
            f"[stream] chunk_seconds is {settings.chunk_seconds} s, which exceeds what the renderers' window holds"
        )
    return found
