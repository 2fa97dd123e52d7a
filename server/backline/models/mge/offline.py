"""Whole files by MGE-LDM: an instrument out of a song, one that joins in, a band around it, or a song (Section 2.3).

    player = OfflinePlayer(network, vae, towers)
    bass, rest = player.extract(song, "the bass", Sampling(steps=1))
    drums, piano = player.impute(guitar, ["drums", "a piano"], Sampling(steps=8, guidance=2.0))

A file is played window by window; each begins with what the one before has ended with. Networks that have a time for
every frame are told that past clean, others as noisy as the rest, as the authors' code does. Noise is drawn by seed and
absolute frame, so a frame's noise is the same whatever window it falls into. Sounds are mono, float32 [sample], at the
VAE's rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.vae.config import Vae
from backline.codecs.vae.whole import Sound, decoded, encoded
from backline.models.mge.network import MgeNetwork
from backline.models.mge.tasks import MIXTURE, PORTS, SOURCE, SUBMIXTURE, TASKS, TRACKS, Task
from backline.models.stream import Audio
from backline.models.windowed.finish import Finish
from backline.models.windowed.polarity import polarity
from backline.models.windowed.windows import Windows
from backline.nn.diffusion import Denoiser, guided, noise_at, sample, windows


class Reader(Protocol):
    """What hears prompts (towers.py)."""

    def embed(self, text: str) -> Tensor:
        """[dimension]; zeros where the text asks for nothing."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How latents are drawn. Extraction wants one step or two and no guidance (MGE.md 7); the paper has 250 and 2."""

    steps: int = 8
    guidance: float = 1.0  # 1 asks the network once, more leads away from what is asked for by nobody
    seed: int = 0
    overlap: float = 0.25  # share of a window that the one before has played already

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap:g}: use 0 or more, and less than 1")


class OfflinePlayer:
    """A network with its VAE and what reads prompts, all of them at rest between calls."""

    def __init__(self, network: MgeNetwork, vae: Vae, reader: Reader) -> None:
        self.network, self.vae, self.reader = network.eval(), vae, reader
        self.device = network.mean.device

    def extract(self, mixture: Sound, prompt: str, sampling: Sampling = Sampling(steps=1)) -> tuple[Sound, Sound]:
        """What is asked for and the rest, as the VAE decodes them: they do not sum to the mixture."""
        latents = self._answered("extract", mixture, prompt, sampling)
        source, rest = (self._decoded(latents[track], len(mixture)) for track in (SOURCE, SUBMIXTURE))
        return source, rest

    def impute(self, given: Sound, prompts: Sequence[str], sampling: Sampling = Sampling()) -> list[Sound]:
        """What joins in, for one prompt after the other, each beside all before it: given or made (Equation 4)."""
        made: list[Sound] = []
        for number, prompt in enumerate(prompts):
            submixture = np.stack([given, *made]).sum(axis=0)
            latents = self._answered("impute", submixture, prompt, sampling, number)
            made.append(self._decoded(latents[SOURCE], len(given)))
        return made

    def accompany(self, source: Sound, prompt: str, sampling: Sampling = Sampling()) -> Sound:
        """A band around one instrument."""
        return self._decoded(self._answered("accompany", source, prompt, sampling)[SUBMIXTURE], len(source))

    def generate(self, seconds: float, prompt: str, sampling: Sampling = Sampling()) -> Sound:
        """A song. Raises ValueError: it would have no samples."""
        samples = round(seconds * self.vae.sample_rate)
        if samples < 1:
            raise ValueError(f"a song of {seconds:g} s has no samples: ask for more")
        silence = np.zeros(samples, np.float32)
        return self._decoded(self._answered("generate", silence, prompt, sampling)[MIXTURE], samples)

    def _answered(self, name: str, given: Sound, prompt: str, sampling: Sampling, stream: int = 0) -> Tensor:
        """Latents [track, channel, frame] of a task, in the VAE's units.

        Args:
            stream: tells draws of the same seed apart.

        Raises:
            ValueError: the sound is no [sample], or has none.
        """
        if given.ndim != 1 or not len(given):
            raise ValueError(f"the sound is {list(given.shape)}: give mono samples, at least one")
        task, config = TASKS[name], self.network.config
        frames = ceil(len(given) / self.vae.hop)
        if config.network.time == "token":  # taught whole windows, so it gets them: silence follows a shorter file
            frames = max(frames, config.window_frames)
        heard = None if task.given is None else self.network.normed(encoded(self.vae, given, frames).to(self.device))
        condition = self.network.asked(self.reader.embed(prompt)[None].to(self.device), task)
        return self.network.unnormed(self.told(task, heard, frames, condition, sampling, stream))

    @torch.inference_mode()
    def told(
        self, task: Task, heard: Tensor | None, frames: int, condition: Tensor, sampling: Sampling, stream: int = 0
    ) -> Tensor:
        """Latents [track, channel, frame] as the network knows them.

        Args:
            heard: those of the track that the task gives [channel, frame], if it gives one.
            frames: a window's at least, where the network has one time for all of a track.
            condition: [1, track, dimension].
        """
        config = self.network.config
        shape = len(TRACKS), config.network.channels
        by_frame = config.network.time == "frame"
        clean = torch.zeros(*shape, frames, device=self.device)
        if heard is not None and task.given is not None:
            clean[task.given] = heard
        denoise = guided(self.network, condition, sampling.guidance)
        for start, stop, begun in windows(frames, config.window_frames, sampling.overlap):
            noise = noise_at(sampling.seed, stream, shape, start, stop).to(self.device)
            known = task.known(1).to(self.device)
            if by_frame:
                known = known | (torch.arange(start, stop, device=self.device) < begun)
            past = 0 if by_frame else begun - start
            (clean[..., start:stop],) = sample(
                denoise, noise[None], sampling.steps, known, clean[None, ..., start:stop], past
            )
        return clean

    @torch.inference_mode()
    def in_windows(
        self,
        name: str,
        audio: Audio,
        prompt: str,
        windows: Windows,
        sampling: Sampling,
        finish: Finish,
        gain: float = 1.0,
    ) -> NDArray[np.float32]:
        """What a stream plays of `audio` [channel, sample], the slow and obvious way: [port, channel, sample].

        Each window is encoded with all that was heard before it and decoded whole; see stream.py.

        Args:
            name: of the task.
            windows: of the session; `sampling.overlap` is not looked at.
            finish: for tracks that are taken out of what is heard; `gain` is of those that are made.
        """
        task, ports, vae = TASKS[name], PORTS[name], self.vae
        channels, length = audio.shape
        chunks, frame = ceil(length / windows.hop), windows.frame
        before = ceil(vae.reach[0] / frame) * frame + windows.window - windows.end(0)  # of silence
        padded = np.pad(audio, ((0, 0), (before, windows.end(chunks) - length)))
        nothing = encoded(vae, np.zeros(padded.shape[1] + before, np.float32), (padded.shape[1] + before) // frame)
        silence = self.network.normed(nothing.to(self.device))[:, before // frame][:, None]
        latents = silence.expand(len(TRACKS), -1, padded.shape[1] // frame).clone()
        denoise = guided(
            self.network, self.network.asked(self.reader.embed(prompt)[None].to(self.device), task), sampling.guidance
        )
        total, weight = np.zeros((len(ports), channels, padded.shape[1])), np.zeros(padded.shape[1])
        for chunk in range(chunks):
            stop = before + windows.end(chunk)
            start = stop - windows.window
            heard, span = padded[:, start:stop], slice(start // frame, stop // frame)
            sounds = np.zeros((len(ports), 1, windows.window), np.float32)
            if task.given is None or heard.any():
                told = windows.hop + windows.guard if task.goes_on else windows.end(chunk)
                new = (stop - min(told, windows.window)) // frame
                self._tell(latents, task, span, new, before // frame, denoise, sampling, padded[:, :stop], heard)
                sounds[:, 0] = vae.decode(self.network.unnormed(latents[list(ports.values()), :, span]).cpu()).numpy()
            else:
                latents[..., span] = silence
            if name == "extract":
                tracks = finish.tracks(heard, sounds, tuple(ports), slice(0, windows.window))
            else:
                tracks = np.broadcast_to(gain * sounds, (len(ports), *heard.shape))
            at = slice(start + windows.kept.start, start + windows.kept.stop)
            total[..., at] += windows.weights() * tracks[..., windows.kept]
            weight[at] += windows.weights()
        played = slice(before, before + length)
        return (total[..., played] / weight[played]).astype(np.float32)

    def _tell(
        self, latents: Tensor, task: Task, span: slice, new: int, zero: int, denoise: Denoiser, sampling: Sampling,
        before: Audio, heard: Audio,
    ) -> None:  # fmt: skip
        """Writes a window's part of `latents` [track, channel, frame] that is new, and the given track's all.

        Args:
            span: frames of the window; `new` is the first that is told, `zero` that at which the session begins.
            before: all that was heard [channel, sample], up to the window's end; `heard` the window alone.
        """
        if task.given is not None:
            mono = (before * polarity(heard)).mean(axis=0, dtype=np.float32)
            whole = self.network.normed(encoded(self.vae, mono, len(mono) // self.vae.hop).to(self.device))
            latents[task.given, :, span] = whole[:, span]
        known, past = task.known(1).to(self.device), new - span.start
        if self.network.config.network.time == "frame":
            known, past = known | (torch.arange(span.start, span.stop, device=self.device) < new), 0
        shape = len(TRACKS), self.network.config.network.channels
        noise = noise_at(sampling.seed, 0, shape, span.start - zero, span.stop - zero).to(self.device)
        (latents[..., span],) = sample(denoise, noise[None], sampling.steps, known, latents[None, ..., span], past)

    def _decoded(self, latents: Tensor, samples: int) -> Sound:
        return decoded(self.vae, latents)[:samples]
