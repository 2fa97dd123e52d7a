"""LAION's CLAP reads prompts for MGE-LDM as it was published (appendix E.3): the text branch alone.

    clap = load_clap(tensors, config)
    wanted = clap.embed("the sound of the bass")         # [512], of unit length

RoBERTa's pooled state goes through two linear layers to the space that CLAP shares with sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.models.errors import PackError
from backline.models.mge.towers import asks
from backline.nn.bert import ROBERTA_BASE, Bert, BertConfig, BertError, TextTokens, read_tokenizer
from backline.nn.tables import Width
from backline.nn.weights import mismatches, part

PREFIX = "clap."  # of a pack's tensors
TOKENIZER = "tokenizer"  # the text of RoBERTa's tokenizer.json, as bytes
LONGEST = 77  # tokens of a text, as CLAP was trained
CACHED = 256  # texts whose vectors are kept


@dataclass(frozen=True)
class ClapConfig:
    """Sizes of the text branch; the default is the published one."""

    text: BertConfig = ROBERTA_BASE
    dimension: Width = 512


class ClapNetwork(nn.Module):
    """Tokens [row, token] and their mask -> [row, dimension], of unit length."""

    def __init__(self, config: ClapConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config.text)
        hidden, out = nn.Linear(config.text.width, config.dimension), nn.Linear(config.dimension, config.dimension)
        self.projection = nn.Sequential(hidden, nn.ReLU(), out)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(self.projection(self.bert.pooled(self.bert(tokens, mask))), dim=-1)


class Clap:
    """Texts as vectors. `embed` may be called from any thread, one at a time."""

    hears = "clap"

    def __init__(self, network: ClapNetwork, tokenizer: Any) -> None:
        self.network, self.dimension = network, network.config.dimension
        self._tokens = TextTokens(tokenizer, min(LONGEST, network.config.text.longest))
        self._embedded = lru_cache(CACHED)(self._embed)

    def embed(self, text: str) -> Tensor:
        """[dimension], of unit length; zeros where `text` asks for nothing. Kept for texts that come again."""
        return self._embedded(text).clone()

    @torch.no_grad()
    def _embed(self, text: str) -> Tensor:
        if not asks(text):
            return torch.zeros(self.dimension)
        found: Tensor = self.network(*self._tokens([text]))[0]
        return found


def load_clap(tensors: Mapping[str, Tensor], config: ClapConfig) -> Clap:
    """The text branch of a pack.

    Args:
        tensors: a pack's, of which those that begin with PREFIX are meant.

    Raises:
        PackError: they do not fit, names what does not; or the package tokenizers is not installed.
    """
    given = part(tensors, PREFIX)
    tokenizer = given.pop(TOKENIZER, torch.zeros(0, dtype=torch.uint8))
    with torch.device("meta"):
        network = ClapNetwork(config)
    if wrong := mismatches(network.state_dict(), given, PREFIX):
        raise PackError(wrong)
    network.load_state_dict({name: tensor.float() for name, tensor in given.items()}, assign=True)
    try:
        read = read_tokenizer(bytes(tokenizer.tolist()).decode("utf-8", "replace"))
    except BertError as error:
        raise PackError([f"{PREFIX}{TOKENIZER}: {error}"]) from error
    return Clap(network.eval().requires_grad_(False), read)
