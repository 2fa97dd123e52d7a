"""BERT's encoder (Devlin et al., 2018) from published weights: MiniLM (6 layers x 384), RoBERTa-base (12 x 768), ...

    network = load_bert(load_file(folder / "model.safetensors"), read_config((folder / "config.json").read_bytes()))
    tokens, mask = TextTokens(read_tokenizer(folder), longest=256)(["the sound of the bass"])
    meaning = mean_pooled(network(tokens, mask), mask)  # [1, 384]

Post-LN: each layer adds what attention says and normalises, then adds what its feed-forward layer says and normalises.
Tokenizing, WordPiece and byte-level BPE alike, is what `tokenizers` does, Hugging Face's own library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.tables import Entries, Epsilon, FeedForward, Heads, Layers, Positions, TableError, Width, read_table
from backline.nn.weights import mismatches

REMEDY = "pip install 'backline[text]'"


class BertError(ValueError):
    """Weights, sizes or a tokenizer that are not those of such a network; the message says what to do."""


@dataclass(frozen=True)
class BertConfig:
    """Sizes; MiniLM-L6's unless said otherwise."""

    layers: Layers = 6
    width: Width = 384
    heads: Heads = 12
    feed_forward: FeedForward = 1536
    vocabulary: Entries = 30_522
    positions: Positions = 512
    first_position: int = 0  # RoBERTa's rows before 2 are for padding
    types: Heads = 2  # of segments; all tokens are of the first
    epsilon: Epsilon = 1e-12

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}: use a multiple of heads ({self.heads})")
        if not 0 <= self.first_position < self.positions:
            raise ValueError(f"first_position is {self.first_position}: use 0 to {self.positions - 1}")

    @property
    def longest(self) -> int:
        """Tokens of a text at most, those at its ends included."""
        return self.positions - self.first_position


ROBERTA_BASE = BertConfig(12, 768, 12, 3072, 50_265, 514, 2, 1, 1e-5)


def read_config(data: bytes) -> BertConfig:
    """Sizes from Hugging Face's config.json.

    Raises:
        BertError: it cannot be read, or describes another kind of network.
    """
    try:
        table: dict[str, Any] = json.loads(data)
        kind, activation = table["model_type"], table["hidden_act"]
        if kind not in ("bert", "roberta") or activation != "gelu":
            raise BertError(f"config.json describes a {kind} with {activation}: use a bert or a roberta with gelu")
        sizes = {
            "layers": table["num_hidden_layers"], "width": table["hidden_size"], "heads": table["num_attention_heads"],
            "feed_forward": table["intermediate_size"], "vocabulary": table["vocab_size"],
            "positions": table["max_position_embeddings"], "types": table["type_vocab_size"],
            "first_position": table.get("pad_token_id", 1) + 1 if kind == "roberta" else 0,
            "epsilon": table["layer_norm_eps"],
        }  # fmt: skip
        return read_table(BertConfig, sizes, "")
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, TableError) as error:
        raise BertError(f"config.json describes no BERT ({error}): take it from where its weights come from") from error


class Bert(nn.Module):
    """Tokens [row, token] to hidden states [row, token, width]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.places = nn.Embedding(config.positions, config.width)
        self.types = nn.Embedding(config.types, config.width)
        self.norm = nn.LayerNorm(config.width, config.epsilon)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.pooler = nn.Linear(config.width, config.width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            tokens: [row, token], each row padded at its end.
            mask: [row, token], true where there is a token; what stands elsewhere is heard by no token.

        Returns:
            [row, token, width]; of no use where the mask is false.
        """
        first = self.config.first_position
        x = self.words(tokens) + self.places.weight[first : first + tokens.shape[1]] + self.types.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def pooled(self, hidden: Tensor) -> Tensor:
        """[row, width]: what the network was trained to say at a text's first token; CLAP's text branch takes it."""
        return torch.tanh(self.pooler(hidden[:, 0]))


class Layer(nn.Module):
    """Attention over all tokens, then a feed-forward layer, each normalised with what it adds to."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.mixed = (nn.Linear(config.width, config.width) for _ in range(4))
        self.heard = nn.LayerNorm(config.width, config.epsilon)
        self.wide = nn.Linear(config.width, config.feed_forward)
        self.narrow = nn.Linear(config.feed_forward, config.width)
        self.said = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        x = self.heard(x + self.mixed(heard.transpose(1, 2).flatten(2)))
        said: Tensor = self.said(x + self.narrow(F.gelu(self.wide(x))))
        return said


def mean_pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """[row, width] of unit length: the mean of a text's hidden states [row, token, width], as Sentence-BERT has it."""
    counted = mask[..., None].to(hidden.dtype)
    return F.normalize((hidden * counted).sum(1) / counted.sum(1).clamp(min=1), dim=-1)


# Names of Hugging Face's tensors and of ours, as patterns.
_RENAMED = (
    (r"^(?:bert|roberta|text_branch|text_model)\.", ""),
    (r"^embeddings\.word_embeddings\.", "words."),
    (r"^embeddings\.position_embeddings\.", "places."),
    (r"^embeddings\.token_type_embeddings\.", "types."),
    (r"^embeddings\.LayerNorm\.", "norm."),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.self\.", "."),
    (r"\.attention\.output\.dense\.", ".mixed."),
    (r"\.attention\.output\.LayerNorm\.", ".heard."),
    (r"\.intermediate\.dense\.", ".wide."),
    (r"\.output\.dense\.", ".narrow."),
    (r"\.output\.LayerNorm\.", ".said."),
    (r"^pooler\.dense\.", "pooler."),
)
_NO_WEIGHTS = re.compile(r"position_ids$|token_type_ids$|^lm_head\.|^cls\.")


def our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of `Bert`, from Hugging Face's; heads for other tasks are left out."""
    renamed = {}
    for name, tensor in tensors.items():
        if not _NO_WEIGHTS.search(name):
            for pattern, ours in _RENAMED:
                name = re.sub(pattern, ours, name)
            renamed[name] = tensor
    return renamed


def load_bert(tensors: Mapping[str, Tensor], config: BertConfig) -> Bert:
    """The network for evaluation, in float32.

    Args:
        tensors: by Hugging Face's names or ours. One that has no pooler gets a pooler of zeros.

    Raises:
        BertError: they are not those of a network of these sizes; names what does not fit.
    """
    given = our_names(tensors)
    for name, shape in (("pooler.weight", (config.width, config.width)), ("pooler.bias", (config.width,))):
        given.setdefault(name, torch.zeros(shape))
    with torch.device("meta"):
        network = Bert(config)
    if wrong := mismatches(network.state_dict(), given, ""):
        raise BertError(f"these are no weights of a BERT of {config.layers} x {config.width}: {'; '.join(wrong[:8])}")
    network.load_state_dict({name: tensor.float() for name, tensor in given.items()}, assign=True)
    return network.eval().requires_grad_(False)


class TextTokens:
    """Texts to tokens."""

    def __init__(self, tokenizer: Any, longest: int) -> None:
        """
        Args:
            tokenizer: as `read_tokenizer` gives it.
            longest: tokens of a text at most, those at its ends included; what is longer is cut off.
        """
        self._tokenizer = tokenizer
        tokenizer.enable_truncation(longest)
        tokenizer.enable_padding()  # with anything: it is masked

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens and mask [row, token] of texts, as long as the longest of them."""
        found = self._tokenizer.encode_batch(list(texts))
        tokens = torch.tensor([each.ids for each in found])
        return tokens, torch.tensor([each.attention_mask for each in found], dtype=torch.bool)


def read_tokenizer(place: Path | str) -> Any:
    """A tokenizer of `tokenizers`, for `TextTokens`.

    Args:
        place: the text of a tokenizer.json; or a folder that has one, or vocab.txt (WordPiece, uncased), or vocab.json
            with merges.txt (byte-level BPE, as RoBERTa has it).

    Raises:
        BertError: `tokenizers` is not installed, there is no such file, or it is none.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise BertError(f"the package tokenizers is not installed: {REMEDY}") from error
    try:
        if isinstance(place, str):
            return tokenizers.Tokenizer.from_str(place)
        whole, pieces, pairs = place / "tokenizer.json", place / "vocab.txt", place / "vocab.json"
        if whole.is_file():
            return tokenizers.Tokenizer.from_file(str(whole))
        if pieces.is_file():
            return tokenizers.BertWordPieceTokenizer(str(pieces), lowercase=True)
        if pairs.is_file():
            made = tokenizers.ByteLevelBPETokenizer(str(pairs), str(place / "merges.txt"))
            ends = [(mark, made.token_to_id(mark)) for mark in ("<s>", "</s>")]
            made.post_processor = tokenizers.processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
            return made
    except Exception as error:  # what it is that the library raises, it does not say
        raise BertError(f"{place} is no tokenizer ({error}): take it from where its weights come from") from error
    raise BertError(f"{place} holds no tokenizer.json, no vocab.txt, and no vocab.json with merges.txt")
