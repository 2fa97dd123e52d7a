"""MGE-LDM live: an instrument out of what is playing, one that joins in, a band around one, or a song, by text.

A chunk's way: the session's channels are held for as long as a window is; the network hears the given track of it and
says what is new of the others (answers.py); its sounds become the task's ports, and those of the chunk are laid over
the fade of the chunk before. An extracted source and the rest of the song are masks on the session's own channels
(models/windowed/finish.py), so that they sum to it and nothing comes out that is not in it; what is made is mono, on
every channel. Nothing that has been given out is changed later, and a row is as large at its end as at its start.

Texts. "query" says what is wanted; a text without letter or digit asks for nothing, which is the condition that the
paper drops for guidance: `extract` then takes out some of the stems, as a song has them, and the others play what fits.
What is asked for and not there is answered as the network has learnt it, by silence. When the text changes, what the
tracks have been so far is the answer to another question: that chunk's window is told anew, all of it, and the fade
between two chunks leads over. With `morph`, the question itself changes by and by, and the past stays.

Digital silence in a window is silence on every track, of which the network is not asked; `generate` alone plays in it,
for it is given nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any, get_args

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from backline.kernels.overlap import OverlapAdd
from backline.models.mge.answers import Answered, Answerer, Asked
from backline.models.mge.offline import Reader
from backline.models.mge.tasks import PORTS, TASKS, TaskName
from backline.models.mge.words import BASS, FAMILIES, INSTRUMENTS
from backline.models.rows import each, free_row, one_by_one, raised
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Parameter,
    Port,
    RowBytes,
    RowFailed,
    SessionConfig,
    StreamSpec,
    Task,
    Text,
)
from backline.models.warm_up import warmed_up
from backline.models.windowed import settings as windowed
from backline.models.windowed.consistency import MASK, OFF
from backline.models.windowed.settings import WindowedSettings, latency_items, make_finish, session_windows
from backline.models.windowed.windows import Windows

CAPACITY = 8  # sessions at once
WARM_UP_CHUNKS = 3  # that are timed
MOST_STEPS, MOST_GUIDANCE, MOST_GAIN = 250, 10.0, 4.0  # the paper's steps
MOST_MORPH = 30.0  # seconds
QUERY = "query"

DESCRIPTIONS = {
    "extract": "plays what is asked for out of the song, and the rest of it",
    "impute": "plays what is asked for along with a band",
    "accompany": "plays a band around an instrument",
    "generate": "plays a song, whatever it hears",
}


@dataclass(frozen=True)
class MgeSettings(WindowedSettings):
    """The [stream] table of pack.toml. Extraction is nearest to the truth in one step (MGE.md 7)."""

    consistency: Annotated[int, Meta(ge=OFF, le=MASK)] = MASK  # the decoded source is mono: masks keep the stereo
    # 1: with 2, as the stems pack has it, even true stems come back farther off in log mels ("VAE, mask" of
    # `backline evaluate extraction`).
    mask_exponent: Annotated[float, Meta(gt=0, le=100)] = 1.0
    tasks: Annotated[tuple[TaskName, ...], Meta(min_length=1)] = get_args(TaskName)  # that it does well enough
    extract_steps: Annotated[int, Meta(ge=1, le=MOST_STEPS)] = 1
    extract_guidance: Annotated[float, Meta(ge=0, le=MOST_GUIDANCE)] = 1.0
    steps: Annotated[int, Meta(ge=1, le=MOST_STEPS)] = 8  # of the other tasks, and so is the next
    guidance: Annotated[float, Meta(ge=0, le=MOST_GUIDANCE)] = 2.0

    def sampling(self, task: str, parameters: Mapping[str, float]) -> tuple[int, float]:
        """Steps and guidance of a session, by its parameters; 0 is what the task has."""
        own = (self.extract_steps, self.extract_guidance) if task == "extract" else (self.steps, self.guidance)
        return int(parameters.get("steps", 0)) or own[0], parameters.get("guidance", 0.0) or own[1]


@dataclass(frozen=True)
class Spoken:
    """What a row is asked for: a prompt, or what lies on the way to it from the one before."""

    origin: Tensor  # [dimension]
    target: Tensor
    at: Tensor
    seconds: float  # since the target was said

    @classmethod
    def first(cls, prompt: Tensor) -> Spoken:
        """What a session begins with."""
        return cls(prompt, prompt, prompt, 0.0)

    def then(self, wanted: Tensor, morph: float, seconds: float) -> tuple[Spoken, bool]:
        """After `seconds` more, the time of a chunk, and whether that is another question than the chunk before had.

        Args:
            wanted: the prompt in force.
            morph: seconds from one prompt to the next; less than a chunk is none.
        """
        fresh = not torch.equal(wanted, self.target)
        now = Spoken(self.at, wanted, self.at, 0.0) if fresh else self
        passed = now.seconds + seconds
        share = 1.0 if passed >= morph else passed / morph
        return replace(now, at=torch.lerp(now.origin, wanted, share), seconds=passed), fresh and share == 1.0


@dataclass
class Row:
    """One session."""

    task: str
    seed: int
    windows: Windows
    heard: Audio  # [channel, sample] the newest window, and what the encoder hears before it
    latents: Tensor  # [track, channel, frame] of the window before
    overlap: OverlapAdd  # of the channels of all ports
    spoken: Spoken | None = None
    chunk: int = 0  # the next one


class MgeStream:
    """A `Stream` and `TextStream` (models/stream.py)."""

    def __init__(self, answerer: Answerer, reader: Reader, settings: MgeSettings, capacity: int = CAPACITY) -> None:
        """`reader` hears prompts; `capacity` are sessions at once."""
        self.answerer, self.reader, self.settings, self.capacity = answerer, reader, settings, capacity
        self.spec = make_spec(settings, answerer.sample_rate, answerer.frame_samples, answerer.window_frames)
        self._silence = answerer.silence()
        self._nothing = torch.zeros(answerer.network.config.network.condition)
        self._reading = threading.Lock()  # readers hear one text at a time
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = free_row(self._rows, self.capacity)
        windows, task = self._windows(config), config.task or self.spec.tasks[0].name
        held = windows.window + self.answerer.lead * windows.frame
        self._rows[free] = Row(
            task=task,
            seed=config.seed,
            windows=windows,
            heard=np.zeros((config.channels, held), np.float32),
            latents=self._silence,
            overlap=OverlapAdd(windows.weights(), windows.hop, len(PORTS[task]) * config.channels),
        )
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        state = self._rows[row]
        return state.windows.end(state.chunk)

    def prepare(self, name: str, text: str) -> Tensor:
        """What is wanted, as a vector [dimension]; zeros where the text asks for nothing."""
        with self._reading:
            return self.reader.embed(text).float()

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        asked = {given.row: answer for given, answer in zip(inputs, each(self._asked, inputs), strict=True)}
        windows = [answer[0] for answer in asked.values() if not isinstance(answer, Exception)]
        told = dict(zip((window.row for window in windows), self._answered(windows), strict=True))

        def chunk(given: ChunkInput) -> ChunkOutput:
            window, spoken = raised(asked[given.row])
            return self._played(given, window, spoken, raised(told[given.row]))

        return one_by_one(inputs, chunk)

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        return latency_items(self._windows(config), self.answerer.sample_rate, config)

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:
            return warmed_up(self, row, config, chunks=1, timed=WARM_UP_CHUNKS, device=self.answerer.device)
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return self.answerer.resident_bytes() + sum(self.row_bytes(row).other for row in tuple(self._rows))

    def row_bytes(self, row: int) -> RowBytes:
        playing = self._rows.get(row)
        if playing is None:
            return RowBytes()
        latents = playing.latents.numel() * playing.latents.element_size()
        return RowBytes(other=playing.heard.nbytes + latents + playing.overlap.memory_bytes)

    def _windows(self, config: SessionConfig) -> Windows:
        answerer = self.answerer
        return session_windows(
            self.settings, answerer.sample_rate, answerer.frame_samples, answerer.window_frames, config
        )

    def _asked(self, given: ChunkInput) -> tuple[Asked, Spoken]:
        """The window of the row's next chunk and what is asked of it; the row stays where it is."""
        row = self._rows[given.row]
        windows, frames, task = row.windows, self.answerer.window_frames, TASKS[row.task]
        wanted: Tensor = given.texts.get(QUERY, self._nothing)
        hop_seconds = windows.hop / self.answerer.sample_rate
        before = row.spoken or Spoken.first(wanted)
        spoken, other = before.then(wanted, given.parameters.get("morph", 0.0), hop_seconds)
        new = (windows.hop + windows.guard) // windows.frame
        moved, ends = windows.new_frames(row.chunk), windows.end(row.chunk) // windows.frame
        steps, guidance = self.settings.sampling(row.task, given.parameters)
        asked = Asked(
            row=given.row,
            audio=np.concatenate((row.heard[:, given.audio.shape[1] :], given.audio), axis=1),
            latents=row.latents.roll(-moved, dims=-1),
            first_frame=ends - frames,
            # Before the session was silence, whatever is asked for.
            new_frames=new if task.goes_on and not other else min(frames, ends),
            kept=windows.kept,
            task=task,
            played=tuple(PORTS[row.task].values()),
            prompt=spoken.at,
            seed=row.seed,
            steps=steps,
            guidance=guidance,
        )
        return asked, spoken

    def _answered(self, windows: Sequence[Asked]) -> list[Answered | Exception]:
        """Every window answered. Of digital silence the answer is known, where a task is given what it hears."""
        sounding = [it for it in windows if it.task.given is None or self._window(it).any()]
        told = dict(zip((it.row for it in sounding), self.answerer.answer(sounding) if sounding else (), strict=True))
        return [told[it.row] if it.row in told else self._silent(it) for it in windows]

    def _silent(self, asked: Asked) -> Answered:
        return Answered(self._silence, np.zeros((len(asked.played), 1, self._window(asked).shape[1]), np.float32))

    def _window(self, asked: Asked) -> Audio:
        """What is heard of the window alone [channel, sample]."""
        return asked.audio[:, self.answerer.lead * self.answerer.frame_samples :]

    def _played(self, given: ChunkInput, window: Asked, spoken: Spoken, told: Answered) -> ChunkOutput:
        row = self._rows[given.row]
        windows, names = row.windows, tuple(PORTS[row.task])
        row.heard, row.spoken = window.audio, spoken
        # Samples that no recording has may leave what is no number, which the past would hand on for ever.
        row.latents = told.latents if bool(told.latents.isfinite().all()) else self._silence
        if row.task == "extract":
            finish = make_finish(self.settings, given.parameters)
            tracks = finish.tracks(self._window(window), told.sounds, names, windows.kept)
        else:
            gain = np.float32(given.parameters.get("gain", 1.0))
            made = gain * told.sounds[..., windows.kept]
            tracks = np.broadcast_to(made, (len(names), len(row.heard), made.shape[2]))
        played = row.overlap.process(tracks.reshape(-1, tracks.shape[2])).reshape(*tracks.shape[:2], windows.hop)
        position = row.chunk * windows.hop
        row.chunk += 1
        return ChunkOutput(given.row, position, tuple(played), position // windows.frame)


def make_spec(settings: MgeSettings, sample_rate: int, frame_samples: int, window_frames: int) -> StreamSpec:
    """What a pack with such settings takes and gives, whose VAE has frames of so many samples."""
    own = "0: what suits the task"
    parameters = (
        Parameter("steps", 0, 0, MOST_STEPS, "", f"of denoising: more are richer and cost more; {own}", integer=True),
        Parameter("guidance", 0.0, 0.0, MOST_GUIDANCE, "x", f"how closely the text is followed; {own}"),
        Parameter("morph", 0.0, 0.0, MOST_MORPH, "s", "from one text to the next; 0: at once"),
        Parameter("gain", 1.0, 0.0, MOST_GAIN, "x", "of what is made"),
    )
    common = windowed.make_spec(settings, sample_rate, frame_samples, window_frames, (), parameters)
    made, heard = ("steps", "guidance", "morph", "gain"), ("consistency", "steps", "guidance", "morph")
    told = {name: heard if name == "extract" else made for name in PORTS if name in settings.tasks}
    used = {name for names in told.values() for name in names}
    playing = {port for name in told for port in PORTS[name]}
    ports = (
        Port("source", 0, "what is asked for"),
        Port("rest", 0, "the song without it"),
        Port("accompaniment", 0, "a band around what is heard"),
        Port("mix", 0, "a song"),
    )
    return replace(
        common,
        parameters=tuple(each for each in common.parameters if each.name in used),
        ports=tuple(port for port in ports if port.name in playing),
        texts=(Text(QUERY, BASS, "what to play, in words", suggestions()),),
        tasks=tuple(
            Task(name, DESCRIPTIONS[name], tuple(PORTS[name]), (), (QUERY,), names) for name, names in told.items()
        ),
    )


def suggestions() -> tuple[str, ...]:
    """Every label, those that most songs have first."""
    members = {member for family in FAMILIES.values() for member in family.members}
    alone = [name for name in INSTRUMENTS if name not in members]
    return (*alone[:2], *FAMILIES, *alone[2:], *(name for name in INSTRUMENTS if name in members))


def live_table(frame: Fraction, window_frames: int, tasks: Sequence[str] = tuple(PORTS)) -> dict[str, Any]:
    """The [stream] table of a pack whose latent frames last `frame` seconds: 0.96 and 0.48 s of a window of 5.12 s."""
    chunk, guard = max(1, window_frames * 3 // 16), max(1, window_frames * 3 // 32)
    fade = min(frame, WindowedSettings.fade_seconds)
    return {
        "chunk_seconds": str(chunk * frame), "guard_seconds": str(guard * frame), "fade_seconds": str(fade),
        **({} if set(tasks) == set(PORTS) else {"tasks": list(tasks)}),
    }  # fmt: skip
