"""Tells the codes of all tracks of one window, position by position: the cache is kept from track to track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.models.stems.layout import PATH_COUNT, Slots, from_positions, known_positions, to_positions
from backline.models.stems.network import StemsNetwork
from backline.nn.llama import KeyValueCache


@dataclass
class Told:
    """What the network said of windows."""

    codes: NDArray[np.int64]  # [row, track, path, codebook, frame]
    hidden: Tensor  # [row, segment, position, width]: place p told slot p, or would have where it was forced


Step = Callable[[Tensor, KeyValueCache], Tensor]  # the next position [row, 1, width] of a cache -> its hidden state


@torch.inference_mode()
def generate(
    network: StemsNetwork, audio: Tensor, forced: Sequence[NDArray[np.int64]], frames: int, step: Step | None = None
) -> Told:
    """The likeliest code at every place (greedy, as the paper has it), tracks in the order of the configuration.

    The length is forced: a track begins with S and ends after its last frame, whatever the network makes of E.

    Args:
        network: in evaluation mode.
        audio: [row, 1, sample], mixtures of `frames` codec frames.
        forced: of each row [track, path, codebook, known frame], codes of the first frames, which are taken as told;
            rows may know different numbers of them, and a row that knows more is told none of its own.
        frames: of each track in the end.
        step: how single positions are stepped; `network.decoder.extend` if not given.
    """
    step = step or network.decoder.extend
    config = network.config
    table = network.slots(frames)
    rows, lanes = audio.shape[0], config.lanes
    heard = network.hear(audio)
    prefix = network.prefix(heard)
    cache = network.decoder.empty_cache(rows, prefix.shape[1] + config.segments * (len(table) + 1))
    if prefix.shape[1]:
        network.decoder.extend(prefix, cache)
    padded = np.zeros((rows, *forced[0].shape[:-1], frames), np.int64)
    for row, given in enumerate(forced):
        padded[row, ..., : given.shape[-1]] = given
    elements = PATH_COUNT * np.array([given.shape[-1] for given in forced])  # known, of each row
    known = known_positions(table, int(elements.min()))
    codes = torch.from_numpy(to_positions(padded, table)).to(audio.device)  # [row, track, position, codebook]
    hidden = []
    between = heard[:, :0]  # the last position of the track before, which nothing has asked for yet
    for segment in range(config.segments):
        told = codes[:, segment * lanes : (segment + 1) * lanes]
        first = network.inputs(heard, told, segment, table, 0, min(known, len(table) - 1) + 1)
        out = network.decoder.extend(torch.cat([between, first], dim=1), cache)[:, between.shape[1] :]
        parts = [out]
        for position in range(known, len(table)):
            if position > known:
                out = step(network.inputs(heard, told, segment, table, position, position + 1), cache)
                parts.append(out)
            choose(network, out[:, -1:], told[:, :, position], table[position], elements)
        hidden.append(torch.cat(parts, dim=1))
        between = network.inputs(heard, told, segment, table, len(table), len(table) + 1)
    return Told(from_positions(codes.cpu().numpy(), table), torch.stack(hidden, dim=1))


def choose(
    network: StemsNetwork, hidden: Tensor, told: Tensor, slot: NDArray[np.int64], known: NDArray[np.int64]
) -> None:
    """Writes the likeliest codes of one slot [codebook] into `told` [row, lane, codebook], but for the elements that a
    row knows: `known` [row] of them.
    """
    for path in range(PATH_COUNT):
        books = np.flatnonzero((slot >= known.min()) & (slot % PATH_COUNT == path))
        if len(books):
            best = network.logits(hidden, path)[:, 0].argmax(dim=-1)  # [row, lane, codebook]
            untold = slot[books] >= known[:, None]  # [row, codebook]
            if untold.all():
                told[..., books] = best[..., books]
            else:
                mask = torch.from_numpy(untold).to(told.device)[:, None]
                told[..., books] = torch.where(mask, best[..., books], told[..., books])


@torch.inference_mode()
def expected_vectors(network: StemsNetwork, told: Told, codebooks: Tensor) -> Tensor:
    """What the network expects the codes to sum to.

    Codebooks that are told together do not know of each other, but the mean of a sum is the sum of the means. Frames
    that were forced are expected anew, for this window hears further past them than the one that told them.

    Args:
        network: what told.
        told: what it told.
        codebooks: [path, codebook, entry, dim].

    Returns:
        [row, track, path * dim, frame].
    """
    table = network.slots(told.codes.shape[-1])
    return vectors_of(network, told.hidden, table, codebooks)


def vectors_of(network: StemsNetwork, hidden: Tensor, table: Slots, codebooks: Tensor) -> Tensor:
    """As `expected_vectors`, of hidden states [row, segment, slot, width]."""
    paths = []
    for path in range(PATH_COUNT):
        means = []  # of the codebooks, each [row, segment, lane, frame, dim]
        for book in range(table.shape[1]):
            places = np.flatnonzero((table[:, book] >= 0) & (table[:, book] % PATH_COUNT == path))
            heads = network.heads[:, path, book]  # [lane, entry, width]
            logits = torch.einsum("rspw,lew->rslpe", hidden[:, :, torch.from_numpy(places)], heads)
            means.append(logits.float().softmax(dim=-1) @ codebooks[path, book])
        paths.append(torch.stack(means).sum(0))
    return torch.cat(paths, dim=-1).flatten(1, 2).transpose(2, 3)
