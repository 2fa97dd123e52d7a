"""Tokens of a track to sound, live: window by window, of which the newest hop is played (DUOTOK.md 5).

    renderer = WindowedRenderer(Renderer(network, vae, vectors, device))
    state = renderer.begin(renderer.pace(hop_seconds=0.96), seed=0)
    ((state, sound),) = renderer.step([Asked(row, state, tokens, steps=4)])     # `renderer.needs(state)` tokens

    window of hop c:   |<--------------- window ---------------->|     in latent frames since the track's beginning
                       |  told before: clean  |  hop c  |  guard |
                                              ^ c * hop          ^ (c + 1) * hop + guard

What was said before stands clean in the window, as half of the rows in training have it; the hop and the guard after it
are denoised. Of the guard nothing is played but the fade into the next hop: it is what the decoder reaches into, and is
told anew then. Before the track's beginning there is nothing, and the network does not look there. Noise is drawn by
seed and absolute frame, so a track is the same whenever and with whomever it is rendered. A step changes no state: it
returns the next one, and whoever asks keeps it or asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from backline.codecs.duotok.renderer import LIVE_STEPS, Renderer, Sound, Tokens
from backline.nn.diffusion import noise_at

HOP_SECONDS, FADE_SECONDS = 0.96, 0.04


@dataclass(frozen=True)
class Pace:
    """How a track is cut; hop and guard in latent frames."""

    hop: int
    guard: int
    fade: int  # samples after a hop in which it gives way to the next one


@dataclass(frozen=True)
class State:
    """A track between two hops."""

    pace: Pace
    seed: int
    tokens: Tokens  # of the window before
    latents: Tensor  # [channel, frame] of the window before, as the network knows them
    fading: Sound | None  # [channel, sample] what lies after the hop before; None: there was none
    hop: int = 0  # the next one

    @property
    def nbytes(self) -> int:
        """Of memory."""
        latents = self.latents.numel() * self.latents.element_size()
        return self.tokens.nbytes + latents + (0 if self.fading is None else self.fading.nbytes)


@dataclass(frozen=True)
class Asked:
    """One row's next hop."""

    row: int
    state: State
    tokens: Tokens  # int64 [token]: those that follow the ones that the row has given before, `needs` of them
    steps: int = LIVE_STEPS  # of denoising


Rendered = tuple[State, Sound]  # the state after it, and the hop's sound [channel, sample]


class WindowedRenderer:
    """A track's renderer, hop by hop. It keeps nothing of a row."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.config, self.vae = renderer.network.config, renderer.vae
        self.sample_rate, self.frame_samples, self.channels = self.vae.sample_rate, self.vae.hop, self.vae.channels
        self.device = renderer.device
        self.batches = torch.device(renderer.device).type != "cpu"  # whether rows share calls

    def pace(self, hop_seconds: float = HOP_SECONDS) -> Pace:
        """Hops of about so many seconds, or as many as a short window has room for, with the shortest guard that leaves
        the decoder nothing to miss.
        """
        token = self.config.frames  # in whole ones of which tracks are cut
        frames = hop_seconds * self.sample_rate / self.frame_samples
        fade = min(round(FADE_SECONDS * self.sample_rate), self.frame_samples)
        guard = -(-(self.vae.decode_reach[1] + 1) // token) * token
        room = self.config.window_frames - self.vae.decode_reach[0] - guard
        hop = max(1, min(round(frames / token), room // token)) * token
        pace = Pace(hop, guard, fade)
        self.check(pace)
        return pace

    def begin(self, pace: Pace, seed: int = 0) -> State:
        """Where a track begins.

        Raises:
            ValueError: the window has no room for such a pace.
        """
        self.check(pace)
        config = self.config
        tokens = np.zeros(config.tokens_of(config.window_frames), np.int64)
        latents = torch.zeros(config.network.channels, config.window_frames, device=self.device)
        return State(pace, seed, tokens, latents, None)

    def check(self, pace: Pace) -> None:
        """Raises ValueError: the window has no room for such a pace, or it does not fit tokens."""
        config = self.config
        room = config.window_frames - self.vae.decode_reach[0]
        if pace.hop % config.frames or pace.guard % config.frames or min(pace.hop, pace.guard) < 1:
            raise ValueError(f"hop and guard are {pace.hop} and {pace.guard} frames: use multiples of {config.frames}")
        if pace.hop + pace.guard > room:
            raise ValueError(
                f"hop and guard are {pace.hop} and {pace.guard} latent frames: use {room} at most for both"
            )
        longest = min(pace.hop, pace.guard) * self.frame_samples
        if not 1 <= pace.fade <= longest:
            raise ValueError(f"fade is {pace.fade} samples: use 1 to {longest}, the lesser of hop and guard")

    def needs(self, state: State) -> int:
        """Tokens that the next hop needs, beyond those that were given."""
        return self.config.tokens_of(self._moved(state))

    def step(self, asked: Sequence[Asked]) -> list[Rendered]:
        """Every row's next hop, in this order. On a GPU rows of one pace and as many steps share a call; on a CPU each
        has one of its own, and no row's samples depend on others.

        Raises:
            ValueError: a row gives more tokens than are needed, or fewer.
        """
        for it in asked:
            if it.tokens.shape != (self.needs(it.state),):
                raise ValueError(f"tokens are {list(it.tokens.shape)}: give [{self.needs(it.state)}]")
        if not self.batches:
            return [self._rendered([it])[0] for it in asked]
        rendered: dict[int, Rendered] = {}
        alike = sorted(range(len(asked)), key=lambda at: _shared(asked[at]))
        for _, members in groupby(alike, key=lambda at: _shared(asked[at])):
            rows = list(members)
            rendered |= zip(rows, self._rendered([asked[at] for at in rows]), strict=True)
        return [rendered[at] for at in range(len(asked))]

    def _moved(self, state: State) -> int:
        """By how many frames the next window lies after the one before; the first, after one that ends at 0."""
        return state.pace.hop if state.hop else state.pace.hop + state.pace.guard

    @torch.inference_mode()
    def _rendered(self, asked: Sequence[Asked]) -> list[Rendered]:
        """Rows of one pace and as many steps."""
        pace, steps, window = asked[0].state.pace, asked[0].steps, self.config.window_frames
        tokens = [np.concatenate([it.state.tokens, it.tokens])[len(it.tokens) :] for it in asked]
        clean = torch.stack([it.state.latents.roll(-self._moved(it.state), dims=-1) for it in asked])[:, None]
        firsts = [(it.state.hop + 1) * pace.hop + pace.guard - window for it in asked]
        shape = 1, self.config.network.channels
        noise = [
            noise_at(it.state.seed, 0, shape, first, first + window) for it, first in zip(asked, firsts, strict=True)
        ]
        frames = torch.arange(window, device=self.device)
        known = (frames < window - pace.hop - pace.guard).expand(len(asked), 1, -1)
        present = frames >= -torch.tensor(firsts, device=self.device)[:, None]
        context = self.renderer.context(np.stack(tokens))
        seen = None if min(firsts) >= 0 else present
        told = self.renderer.told(torch.stack(noise), context, known, clean, steps, seen)[:, 0]
        told = told * present[:, None]  # what lies before the beginning means nothing
        sounds = [self._played(it, *pair) for it, pair in zip(asked, self._decoded(told, firsts, pace), strict=True)]
        return [
            (State(pace, it.state.seed, own, latents, fading, it.state.hop + 1), sound)
            for it, own, latents, (sound, fading) in zip(asked, tokens, told, sounds, strict=True)
        ]

    def _decoded(self, told: Tensor, firsts: Sequence[int], pace: Pace) -> list[tuple[Sound, Sound]]:
        """Of each row [channel, frame] the hop's sound and what lies in the fade after it, [channel, sample] each."""
        before, after = self.vae.decode_reach
        window, hop, samples = self.config.window_frames, pace.hop * self.frame_samples, self.frame_samples
        begin = window - pace.guard - pace.hop
        stop = min(window, begin + pace.hop - (-pace.fade // samples) + after)
        found: dict[int, tuple[Sound, Sound]] = {}
        # A decoder hears a beginning as one: rows that are still near theirs are cut there.
        starts = [max(begin - before, -first) for first in firsts]
        for start in set(starts):
            rows = [at for at, its in enumerate(starts) if its == start]
            sounds = self.vae.sound(self.renderer.network.unnormed(told[rows])[..., start:stop]).cpu().numpy()
            at = (begin - start) * samples
            for row, sound in zip(rows, sounds, strict=True):
                found[row] = sound[:, at : at + hop], sound[:, at + hop : at + hop + pace.fade]
        return [found[row] for row in range(len(firsts))]

    def _played(self, asked: Asked, sound: Sound, fading: Sound) -> tuple[Sound, Sound]:
        """The hop as it is heard, and what fades out in the next one."""
        state = asked.state
        if state.fading is None:
            return sound.copy(), fading.copy()
        fade = state.pace.fade
        rising = np.sin(0.5 * np.pi * (np.arange(fade, dtype=np.float32) + 0.5) / fade) ** 2
        played = sound.copy()
        played[:, :fade] = rising * sound[:, :fade] + (1 - rising) * state.fading
        return played, fading.copy()


def _shared(asked: Asked) -> tuple[int, int, int, int]:
    """What rows must have in common to be rendered in one call."""
    pace = asked.state.pace
    return asked.steps, pace.hop, pace.guard, pace.fade
