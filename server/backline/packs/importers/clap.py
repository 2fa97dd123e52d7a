"""LAION's CLAP, its text branch only, as what reads the prompts of a pack.

    component = read_clap(Path("music_audioset_epoch_15_esc_90.14.pt"), Path("roberta-base"))

The checkpoint knows no words: RoBERTa's vocabulary is in files of its own, vocab.json with merges.txt, or
tokenizer.json, as Hugging Face has them in `roberta-base`.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from backline.models.errors import PackError
from backline.models.mge.clap import PREFIX, TOKENIZER, ClapConfig, ClapNetwork
from backline.nn.bert import ROBERTA_BASE, BertError, our_names, read_tokenizer
from backline.nn.tables import TableError, read_table
from backline.nn.weights import mismatches, part
from backline.packs.importers.checkpoint import HARMLESS, Component, Harmless, read_torch, tensors_of

OFFICIAL = "music_audioset_epoch_15_esc_90.14.pt of laion_clap, whose text branch is RoBERTa"
WRAPPER = "module."  # what training on several GPUs puts before each name
HEAD = 64  # dimensions of RoBERTa's heads


class Ignored:
    """In place of the numbers that CLAP's trainer left beside the weights: whatever they are made with."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


NUMBERS: tuple[Harmless, ...] = tuple(
    (Ignored, name)
    for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode")
)


def read_clap(file: Path, tokenizer: Path) -> Component:
    """The [clap] table and the tensors "clap.*" of a pack.

    Args:
        file: `music_audioset_epoch_15_esc_90.14.pt`, or another CLAP with RoBERTa.
        tokenizer: a folder with RoBERTa's vocab.json and merges.txt, or its tokenizer.json.

    Raises:
        PackError: with everything that does not fit; or the package tokenizers is not installed.
    """
    tensors = tensors_of(read_torch(file, (*HARMLESS, *NUMBERS)), file)
    tensors = {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}
    given = {f"bert.{name}": tensor for name, tensor in our_names(part(tensors, "text_branch.")).items()}
    projection = part(tensors, "text_projection.")
    given |= {f"projection.{name}": tensor for name, tensor in projection.items()}
    config = _sizes(given, file.name)
    with torch.device("meta"):
        wanted = ClapNetwork(config).state_dict()
    if problems := mismatches(wanted, given, ""):
        raise PackError([*problems, f"give {OFFICIAL}"], file.name)
    try:
        words = read_tokenizer(tokenizer)
    except BertError as error:
        raise PackError([str(error)], tokenizer.name) from error
    if (count := words.get_vocab_size()) > config.text.vocabulary:
        raise PackError(
            [f"it has {count} words, {file.name} knows {config.text.vocabulary}: give that of roberta-base"],
            tokenizer.name,
        )
    given[TOKENIZER] = torch.tensor(list(words.to_str().encode()), dtype=torch.uint8)
    return Component(asdict(config), {PREFIX + name: tensor for name, tensor in given.items()})


def _sizes(given: dict[str, Tensor], where: str) -> ClapConfig:
    """As the tensors' shapes tell; as published where one that would tell is missing.

    Raises:
        PackError: they tell of no such network.
    """

    def size(name: str, axis: int, default: int) -> int:
        found = given.get(name)
        return default if found is None or found.dim() <= axis else found.shape[axis]

    layers = [int(found[1]) for name in given if (found := re.match(r"bert\.layers\.(\d{1,6})\.", name))]
    width = size("bert.words.weight", 1, ROBERTA_BASE.width)
    text = asdict(ROBERTA_BASE) | {
        "layers": max(layers, default=ROBERTA_BASE.layers - 1) + 1,
        "width": width,
        "heads": max(1, width // HEAD),
        "feed_forward": size("bert.layers.0.wide.weight", 0, ROBERTA_BASE.feed_forward),
        "vocabulary": size("bert.words.weight", 0, ROBERTA_BASE.vocabulary),
        "positions": size("bert.places.weight", 0, ROBERTA_BASE.positions),
        "types": size("bert.types.weight", 0, ROBERTA_BASE.types),
    }
    sizes = {"text": text, "dimension": size("projection.2.weight", 0, ClapConfig.dimension)}
    try:
        return read_table(ClapConfig, sizes, "clap")
    except TableError as error:
        raise PackError([*error.problems, f"give {OFFICIAL}"], where) from error
