"""How well each stage of a HAFM predicts songs that nothing was trained on, and how much it owes to the voice.

Teacher forcing, in the paper's layout or in chunks, clips one after another through every song; figures are means over
songs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import torch

from backline.codecs.clustered import agreement
from backline.corpus.pair_tokens import PairTokenizer, Tokens, batch_of, crop, quanta_of, voice_and_band_heard
from backline.corpus.songs import Passage, Songs
from backline.measures.report import Figure, Gate, Row
from backline.measures.stages import stage_losses
from backline.models.errors import PackError
from backline.models.hafm.grid import CHUNK_QUANTUM, Grid
from backline.models.hafm.interleaved.config import CLIPS, InterleavedConfig
from backline.models.hafm.interleaved.layout import interleaved
from backline.models.hafm.interleaved.network import StageNetwork, parameter_count
from backline.models.hafm.load import load_encoder, read_network
from backline.models.hafm.tables import read_tables
from backline.models.through_codec import load_codec
from backline.packs.pack import Pack, read_tensors

GAINS = ("gain", "gain over shuffled", "gain over shuffled voice")
STREAMED, STREAMED_SECONDS = 8, 12  # passages whose voice is heard as a stream too, which takes many times as long

Say = Callable[[str, float], None]  # what is being done, and which share of it is done


def evaluate_stages(
    pack: Pack,
    songs: Songs,
    count: int,
    device: str = "cpu",
    chunk: float | None = None,
    clips: Mapping[str, Fraction] = CLIPS,
    say: Say = lambda doing, share: None,
) -> tuple[dict[str, Row], list[Gate], list[str]]:
    """A row for each stage, what it must reach, and how often the voice's tokens are the same in a stream.

    Args:
        count: passages to judge by, of the songs for tests.
        chunk: seconds that a session would play at a time; None: the paper's layout, a clip at a time.
        clips: seconds, by stage.
    Raises:
        PackError: the pack's stages are not the paper's, or do not fit.
        ValueError: there are too few songs.
    """
    tables = read_tables(pack.config)
    if not isinstance(tables.network, InterleavedConfig):
        raise PackError(["its stages are aligned: only interleaved ones, the paper's, are judged so"], pack.name)
    tensors = read_tensors(pack)
    encoder = load_encoder(pack.config["semantics"], tensors, device)
    codec = load_codec(pack.config["codec"], tensors, device)
    of_band = load_encoder(pack.config["semantics"], tensors, device, "accompaniment")
    tokenizer = PairTokenizer(encoder, codec, tables.semantics.vocal_noise, of_band)
    passages = songs.passages("test", count)[:count]
    tokens, streamed = [], []
    for number, passage in enumerate(passages):
        say("making tokens", number / len(passages))
        tokens.append(tokenizer(passage))
        if number < STREAMED:
            streamed.append(streamed_alike(tokenizer, passage))
    rows: dict[str, Row] = {}
    gates: list[Gate] = []
    for number, (name, stage) in enumerate(tables.network.stages().items()):
        say(f"judging the {name} stage", number / len(tables.network.stages()))
        network = read_network(name, stage, tensors)
        assert isinstance(network, StageNetwork), "of an interleaved pack"
        found, of_song = _clips(tokens, clips[name])
        conditions, targets = batch_of(found, name, stage)
        grid = Grid.of(clips[name] if chunk is None else chunk, clips[name] if chunk is None else chunk)
        layout = interleaved(stage, clips[name], grid)
        losses = stage_losses(network.to(device).eval(), conditions, targets, layout, of_song)
        rows[name] = {**losses.figures(), "parameters (M)": Figure(parameter_count(network) / 1e6)}
        gates += [_beyond_chance(name, column, rows[name][column]) for column in GAINS if column in rows[name]]
    rows["voice"] = {"tokens as of the whole clip": Figure.of(streamed)}
    notes = ["losses in nats per token; gains are differences song by song, with their standard errors"]
    return rows, gates, notes


def streamed_alike(tokenizer: PairTokenizer, passage: Passage) -> float:
    """The share of the voice's tokens that a stream gives as the whole clip does."""
    encoder = tokenizer.encoder
    voice, _ = voice_and_band_heard(passage.song(), passage.seed, encoder.sample_rate, tokenizer.noise)
    with torch.inference_mode():
        return agreement(encoder, torch.from_numpy(voice[: STREAMED_SECONDS * encoder.sample_rate])[None, None])


def _clips(songs: list[Tokens], seconds: Fraction) -> tuple[list[Tokens], list[int]]:
    """Clips one after another, and of which song each is."""
    quanta = int(seconds / CHUNK_QUANTUM)
    found, of_song = [], []
    for number, song in enumerate(songs):
        for start in range(0, quanta_of(song) - quanta + 1, quanta):
            found.append(crop(song, start, quanta))
            of_song.append(number)
    if len(set(of_song)) < 2:
        raise ValueError(f"{len(set(of_song))} songs last {float(seconds):g} s: it takes two to exchange their voices")
    return found, of_song


def _beyond_chance(stage: str, column: str, figure: Figure) -> Gate:
    error = figure.error if figure.error is not None else np.inf
    wanted = f"more than {2 * error:.2g}, twice its standard error"
    return Gate(f"{stage}, {column}", figure.mean, wanted, figure.mean > 2 * error)
