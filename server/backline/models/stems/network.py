"""The MSS-LM network: a log-mel Conformer hears the mixture, a LLaMA-style decoder tells the tracks' codes.

`forward` is for training and takes the true codes; generate.py tells them one by one. See layout.py for the sequence.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from backline.codecs.hcodec.semantics import HubertFeatures
from backline.models.stems.config import StemsConfig
from backline.models.stems.layout import PATH_COUNT, Slots, heard_at, slots
from backline.nn.conformer import Conformer
from backline.nn.llama import Llama
from backline.nn.mel import LogMel


class StemsNetwork(nn.Module):
    """Mixtures [row, 1, sample] and the tracks' codes [row, track, path, codebook, frame]."""

    def __init__(self, config: StemsConfig) -> None:
        super().__init__()
        self.config = config
        mel, width = config.mel, config.decoder.width
        tables = (config.lanes, PATH_COUNT, config.codebooks, config.codebook_size, width)
        hops = 1 if config.condition == "prefix" else config.hops_per_frame
        self.hubert: HubertFeatures | None = None  # who loads the network gives it, where that listens through it
        if config.listener == "conformer":
            self.mel = LogMel(mel.sample_rate, mel.bands, mel.window, mel.hop, mel.floor)
            self.encoder_in = nn.Linear(mel.bands, config.encoder.width)
            self.encoder = Conformer(config.encoder)
            self.encoder_out = nn.Linear(hops * config.encoder.width, width)
        else:
            self.encoder_out = nn.Linear(hops * config.hubert_width, width)
        self.mix = nn.Parameter(torch.empty(width)) if config.condition == "prefix" else None
        self.start = nn.Parameter(torch.empty(width))
        self.track = nn.Parameter(torch.empty(config.segments, width)) if config.track_embedding else None
        self.embeddings = nn.Parameter(torch.empty(tables))  # [lane, path, codebook, entry, width]
        self.decoder = Llama(config.decoder)
        self.heads = nn.Parameter(torch.empty(tables))
        self.end = nn.Parameter(torch.empty(config.lanes, width))  # the class after the last of acoustic codebook 0
        for weight in (self.mix, self.start, self.track, self.embeddings, self.heads, self.end):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)

    def hear(self, audio: Tensor) -> Tensor:
        """What the decoder is told of a mixture [row, 1, sample].

        [row, mel frame, width] for a prefix, [row, codec frame, width] where it is added to positions.
        """
        if self.config.listener == "conformer":
            x = self.encoder(self.encoder_in(self.mel(audio).transpose(1, 2)))
        elif self.hubert is not None:
            x = self.hubert(audio).transpose(1, 2)
        else:
            raise ValueError("this network listens through HuBERT and came without it: give its weights")
        if self.config.condition == "aligned":
            x = x.unflatten(1, (-1, self.config.hops_per_frame)).flatten(2)
        heard: Tensor = self.encoder_out(x)
        return heard

    def slots(self, frames: int) -> Slots:
        """Where the codes of a track of that many codec frames stand."""
        return slots(self.config.order, PATH_COUNT * frames, self.config.codebooks)

    def told(self, codes: Tensor, table: Slots) -> Tensor:
        """Embeddings of positions.

        Args:
            codes: [row, lane, position, codebook] as they stand; entries where `table` has -1 are left out.
            table: [position, codebook], of the same positions.

        Returns:
            [row, position, width], sums over lanes and codebooks.
        """
        config = self.config
        slot = torch.from_numpy(table).to(codes.device)
        lane = torch.arange(config.lanes, device=codes.device)[:, None, None]
        book = torch.arange(config.codebooks, device=codes.device)
        row = ((lane * PATH_COUNT + slot.clamp(min=0) % PATH_COUNT) * config.codebooks + book) * config.codebook_size
        index = (row + codes.clamp(min=0)).permute(0, 2, 1, 3).flatten(2)  # [row, position, lane * codebook]
        weight = (slot >= 0).to(self.embeddings.dtype)[:, None].expand(-1, config.lanes, -1).flatten(1)
        rows, positions, count = index.shape
        bags = nn.functional.embedding_bag(
            index.reshape(-1, count),
            self.embeddings.flatten(0, 3),
            mode="sum",
            per_sample_weights=weight.expand(rows, -1, -1).reshape(-1, count),
        )
        return bags.view(rows, positions, config.decoder.width)

    def inputs(self, heard: Tensor, codes: Tensor, segment: int, table: Slots, first: int, last: int) -> Tensor:
        """What positions `first` to `last` - 1 of a segment take; 0 is its start, p tells the codes of slot p - 1.

        Args:
            heard: from `hear`.
            codes: [row, lane, slot, codebook], of at least the slots `first` - 1 to `last` - 2.
            segment: which.
            table: all slots of a segment.
            first, last: positions in the segment.

        Returns:
            [row, last - first, width].
        """
        rows = codes.shape[0]
        told = slice(max(0, first - 1), last - 1)
        x = self.told(codes[:, :, told], table[told])
        if first == 0:
            x = torch.cat([self.start.expand(rows, 1, -1), x], dim=1)
        if self.track is not None:
            x = x + self.track[segment]
        if self.config.condition == "aligned":
            # What a position is to tell of next: slot p at position p; the last one, which tells the end, as before it.
            times = heard_at(table[np.minimum(np.arange(first, last), len(table) - 1)]) // PATH_COUNT
            x = x + heard[:, torch.from_numpy(times).to(heard.device)]
        return x

    def prefix(self, heard: Tensor) -> Tensor:
        """The positions in front of the tracks [row, 1 + mel frame, width]; none where the condition is aligned."""
        if self.mix is None:
            return heard[:, :0]
        return torch.cat([self.mix.expand(heard.shape[0], 1, -1), heard], dim=1)

    def logits(self, hidden: Tensor, path: int) -> Tensor:
        """[row, position, width] -> [row, position, lane, codebook, entry] as elements of `path`."""
        heads = self.heads[:, path]  # [lane, codebook, entry, width]
        return (hidden @ heads.flatten(0, 2).T).unflatten(-1, heads.shape[:3])

    def forward(self, audio: Tensor, positions: Tensor, table: Slots) -> Tensor:
        """The decoder's output with the truth as its past.

        Args:
            audio: [row, 1, sample], mixtures.
            positions: [row, track, position, codebook], codes as they stand.
            table: where the codes stand.

        Returns:
            [row, segment, 1 + position, width]: place p tells slot p, the last one the end.
        """
        heard = self.hear(audio)
        parts = [self.prefix(heard)]
        count = len(table) + 1
        lanes = self.config.lanes
        for segment in range(self.config.segments):
            codes = positions[:, segment * lanes : (segment + 1) * lanes]
            parts.append(self.inputs(heard, codes, segment, table, 0, count))
        hidden = self.decoder(torch.cat(parts, dim=1))[:, -count * self.config.segments :]
        told: Tensor = hidden.unflatten(1, (self.config.segments, count))
        return told


def parameter_counts(config: StemsConfig) -> dict[str, int]:
    """Of encoder, decoder, and tables with heads; nothing is allocated. MODELS.md B1 has the paper's."""
    with torch.device("meta"):
        network = StemsNetwork(config)
    listener = network.encoder if config.listener == "conformer" else nn.Identity()
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in (("encoder", listener), ("decoder", network.decoder))
    }
    return counts | {"tables": network.embeddings.numel() + network.heads.numel()}
