"""What a stems network is: sizes, layout and readout. The defaults are the paper's (MODELS.md B1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from backline.nn.conformer import ConformerConfig
from backline.nn.llama import LlamaConfig

TRACKS = ("vocals", "drums", "bass", "other")
Order = Literal["parallel", "delay", "flat"]


@dataclass(frozen=True)
class MelConfig:
    """What the encoder hears."""

    sample_rate: int = 48_000
    bands: int = 120
    window: int = 2048
    hop: int = 960  # samples: 50 Hz
    floor: float = 1e-10


@dataclass(frozen=True)
class StemsConfig:
    """A network."""

    encoder: ConformerConfig = field(default_factory=lambda: ConformerConfig(8, 768, 12, dropout=0.1))
    decoder: LlamaConfig = field(default_factory=lambda: LlamaConfig(16, 2048, 16, 8192, dropout=0.1))
    mel: MelConfig = field(default_factory=MelConfig)
    codebooks: int = 16  # of either path
    codebook_size: int = 1024
    hops_per_frame: int = 4  # mel frames per codec frame
    order: Order = "parallel"  # in which a frame's codebooks are told
    tracks: Literal["sequential", "parallel"] = "sequential"  # one after the other, or all at once (ablation)
    # Where the encoder's frames go. The paper puts them in front. "aligned" adds to each position those of the time
    # that it tells of: no position has to find them, which a small model would spend its training on.
    condition: Literal["prefix", "aligned"] = "prefix"
    track_embedding: bool = False  # positions know which track they tell of; else they count
    # What the codec decodes: the codes told, or what the network expects of them. The mean of what is uncertain is
    # closer to the truth than a guess; the codes told still go on to the next position.
    readout: Literal["codes", "mean"] = "codes"
    # Of the estimates: the decoder's own, or the mixture's under the decoder's magnitudes. Phases do not fit into 160
    # codes of a frame; the mixture's are nearly those of whatever is loudest in it.
    phase: Literal["codec", "mixture"] = "codec"

    @property
    def lanes(self) -> int:
        """Tracks that one position tells of."""
        return len(TRACKS) if self.tracks == "parallel" else 1

    @property
    def segments(self) -> int:
        """Runs of positions that follow each other."""
        return len(TRACKS) // self.lanes


def read_config(table: Mapping[str, Any]) -> StemsConfig:
    """The [stems] table of a pack; what it leaves out is the paper's.

    Raises:
        ValueError: it has unknown entries, or values that make no network; names them.
    """
    parts: dict[str, Any] = {"encoder": ConformerConfig, "decoder": LlamaConfig, "mel": MelConfig}
    problems = _unknown("stems", table, StemsConfig)
    for name, part in parts.items():
        if not isinstance(table.get(name, {}), Mapping):
            problems.append(f"[stems.{name}] is {table[name]!r}: make it a table")
        else:
            problems += _unknown(f"stems.{name}", table.get(name, {}), part)
    choices = {
        "order": ("parallel", "delay", "flat"),
        "tracks": ("sequential", "parallel"),
        "condition": ("prefix", "aligned"),
        "readout": ("codes", "mean"),
        "phase": ("codec", "mixture"),
    }
    for name, allowed in choices.items():
        if table.get(name, allowed[0]) not in allowed:
            problems.append(f"[stems] {name} is {table[name]!r}: use {' or '.join(allowed)}")
    if problems:
        raise ValueError("; ".join(problems))
    try:
        made = {name: part(**table[name]) for name, part in parts.items() if name in table}
    except TypeError as error:
        raise ValueError(f"[stems] lacks sizes ({error}): give all of them") from error
    return StemsConfig(**{**table, **made})


def _unknown(name: str, table: Mapping[str, Any], kind: Any) -> list[str]:
    known = {entry.name for entry in fields(kind)}
    wrong = sorted(table.keys() - known)
    return [f"[{name}] has unknown entries {wrong}: known are {sorted(known)}"] if wrong else []
