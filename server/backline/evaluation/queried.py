"""MGE-LDM's tasks as evaluations ask for them: whole sounds at one rate, wanted by name.

extract = extraction(player, Sampling(steps=1), SAMPLE_RATE)
bass, rest = extract(song, "the sound of the bass", seed)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
import torch

from backline.codecs.vae.whole import decoded, encoded
from backline.corpus.multitrack import Excerpt, Multitrack
from backline.evaluation.live import Sound, at_rate
from backline.evaluation.separation_baselines import Resynthesise
from backline.models.errors import PackError
from backline.models.mge.load import read_parts
from backline.models.mge.offline import OfflinePlayer, Sampling
from backline.models.mge.tasks import MIXTURE, SOURCE, SUBMIXTURE, TASKS, TRACKS
from backline.models.mge.towers import Towers
from backline.models.mge.words import ASKED, together
from backline.nn.diffusion import guided, repaint, windows
from backline.packs.pack import Pack, read_tensors

Extract = Callable[[Sound, str, int], tuple[Sound, Sound]]  # mixture, prompt and seed -> source and rest, as decoded
Impute = Callable[[Sound, Sequence[str], int], list[Sound]]  # what is given, prompts and seed -> a sound for each
Generate = Callable[[float, str, int], Sound]  # seconds, prompt and seed -> a song

LONGEST_SECONDS = 60.0  # of a song that are played to at once


def asking_for(*names: str) -> str:
    """The paper's phrase for these instruments together (Section 4.1)."""
    return ASKED.format(together(names))


def players(pack: Pack, device: str) -> dict[str, OfflinePlayer]:
    """What plays a pack's tasks, by what reads prompts: first, what a session has.

    Raises:
        PackError: it is of another family, or does not fit.
    """
    if pack.config.get("family") != "mge":
        raise PackError(["it answers no prompts: give a pack of the family mge"], pack.name)
    parts = read_parts(pack.config, read_tensors(pack))
    network, vae = parts.network.to(device), parts.vae
    readers = parts.reader.apart() if isinstance(parts.reader, Towers) else [parts.reader]
    return {reader.hears: OfflinePlayer(network, vae, reader) for reader in readers}


def extraction(player: OfflinePlayer, sampling: Sampling, sample_rate: int) -> Extract:
    """The player's `extract`, of sounds at `sample_rate`."""
    rate = player.vae.sample_rate

    def extract(mixture: Sound, prompt: str, seed: int) -> tuple[Sound, Sound]:
        heard = at_rate(mixture, sample_rate, rate)
        source, rest = player.extract(heard, prompt, replace(sampling, seed=seed))
        return at_rate(source, rate, sample_rate, len(mixture)), at_rate(rest, rate, sample_rate, len(mixture))

    return extract


def imputation(player: OfflinePlayer, sampling: Sampling, sample_rate: int) -> Impute:
    """The player's `impute`, of sounds at `sample_rate`."""
    rate = player.vae.sample_rate

    def impute(given: Sound, prompts: Sequence[str], seed: int) -> list[Sound]:
        made = player.impute(at_rate(given, sample_rate, rate), prompts, replace(sampling, seed=seed))
        return [at_rate(each, rate, sample_rate, len(given)) for each in made]

    return impute


def generation(player: OfflinePlayer, sampling: Sampling, sample_rate: int) -> Generate:
    """The player's `generate`, of sounds at `sample_rate`."""

    def generate(seconds: float, prompt: str, seed: int) -> Sound:
        made = player.generate(seconds, prompt, replace(sampling, seed=seed))
        return at_rate(made, player.vae.sample_rate, sample_rate, round(seconds * sample_rate))

    return generate


def repainting(player: OfflinePlayer, steps: int, repeats: int, guidance: float, sample_rate: int) -> Extract:
    """Extraction by RePaint (Algorithm 1), window by window: what the times of single tracks are held against.

    Args:
        repeats: U of Table 5.
    """
    network, vae, task = player.network, player.vae, TASKS["extract"]
    channels, window = network.config.network.channels, network.config.window_frames

    @torch.inference_mode()
    def extract(mixture: Sound, prompt: str, seed: int) -> tuple[Sound, Sound]:
        heard = at_rate(mixture, sample_rate, vae.sample_rate)
        frames = ceil(len(heard) / vae.hop)
        clean = torch.zeros(1, len(TRACKS), channels, max(frames, window), device=player.device)
        clean[:, MIXTURE, :, :frames] = network.normed(encoded(vae, heard, frames).to(player.device))
        condition = network.asked(player.reader.embed(prompt)[None].to(player.device), task)
        denoise, known = guided(network, condition, guidance), task.known(1).to(player.device)
        random = torch.Generator().manual_seed(seed)

        def draw() -> torch.Tensor:
            return torch.randn(1, len(TRACKS), channels, window, generator=random).to(player.device)

        for start, stop, _ in windows(clean.shape[-1], window, 0.0):
            clean[..., start:stop] = repaint(denoise, draw, steps, known, clean[..., start:stop], repeats)
        latents = network.unnormed(clean[0, ..., :frames])
        source, rest = (decoded(vae, latents[track])[: len(heard)] for track in (SOURCE, SUBMIXTURE))
        rate = vae.sample_rate
        return at_rate(source, rate, sample_rate, len(mixture)), at_rate(rest, rate, sample_rate, len(mixture))

    return extract


def through_vae(player: OfflinePlayer, sample_rate: int) -> Resynthesise:
    """There and back through the player's VAE: the most that latents can say."""
    vae = player.vae

    def there_and_back(sound: Sound) -> Sound:
        audio = at_rate(sound, sample_rate, vae.sample_rate)
        latents = encoded(vae, audio, ceil(len(audio) / vae.hop))
        return at_rate(decoded(vae, latents)[: len(audio)], vae.sample_rate, sample_rate, len(sound))

    return there_and_back


def middle(song: Multitrack) -> Multitrack:
    """The song, or LONGEST_SECONDS from the middle of one that lasts longer."""
    if song.seconds <= LONGEST_SECONDS:
        return song
    return Excerpt(song, float(np.floor((song.seconds - LONGEST_SECONDS) / 2)), LONGEST_SECONDS)
