"""One track of a DuoTok as a `Codec` of one codebook, and its encoder as a `SemanticEncoder`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from backline.codecs.clustered import nearest
from backline.codecs.duotok.config import Role
from backline.codecs.duotok.encoder import Encoder
from backline.codecs.duotok.stream import Quantize, TokenStream, token_stream
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.nn.composite import Sequential


class Renderer(Protocol):
    """What makes sound of one track's tokens; the decoding half of a `Codec` (codecs/base.py), at its rate and hop."""

    decode_latency: int

    def decode(self, codes: Tensor) -> Tensor: ...

    def init_decode_state(self, rows: int) -> Any: ...

    def decode_step(self, codes: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]: ...


class DuoTokCodec:
    """A `Codec` (codecs/base.py) of one track. Without a renderer it only encodes."""

    codebooks = 1

    def __init__(self, tokenizer: Tokenizer, role: Role, renderer: Renderer | None = None) -> None:
        self.tokenizer, self.role, self._renderer = tokenizer, role, renderer
        self._stream = token_stream(tokenizer, (role,))
        config = tokenizer.config
        self.sample_rate, self.hop, self.frame_rate = config.sample_rate, config.samples_per_token, config.frame_rate
        self.codebook_size = config.entries
        self.encode_latency = self._stream.input_latency
        self.decode_latency = renderer.decode_latency if renderer is not None else 0

    def encode(self, audio: Tensor) -> Tensor:
        return self.tokenizer.encode(audio[:, 0], self.role)[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Raises ValueError: there is no renderer."""
        return self.renderer.decode(codes)

    def init_encode_state(self, rows: int) -> Any:
        return self._stream.init_state(rows)

    def encode_step(self, audio: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        tokens, state = self._stream.step(audio, state, mask)
        return tokens[:, None], state

    def init_decode_state(self, rows: int) -> Any:
        return self.renderer.init_decode_state(rows)

    def decode_step(self, codes: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        return self.renderer.decode_step(codes, state, mask)

    @property
    def renderer(self) -> Renderer:
        """Raises ValueError: there is none."""
        if self._renderer is None:
            raise ValueError(
                f"no renderer of {self.role} came with this tokenizer, so its tokens stay silent: train one"
            )
        return self._renderer


class DuoTokSemantics:
    """A `SemanticEncoder` (codecs/base.py): any tokens of the encoder's hidden states."""

    def __init__(
        self, encoder: Encoder, quantize: Quantize, vocabulary: int, vectors: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """`vectors`: of tokens int64 [row, frame], the [row, frame, code_dim] that the tokenizer itself knows."""
        self._stream = TokenStream(encoder, [quantize])
        self._encoder, self._vectors = encoder, vectors
        self.vocabulary = vocabulary
        config, layer = encoder.config, self._stream.layer
        self.sample_rate, self.hop, self.frame_rate = config.sample_rate, config.samples_per_token, config.frame_rate
        # A step is late by whole tokens; a token of a causal encoder needs a little less than that.
        last = layer.reach(0, 0)[1] if isinstance(layer, Sequential) else layer.input_latency + self.hop - 1
        self.lookahead = last + 1 - self.hop

    def encode(self, audio: Tensor) -> Tensor:
        return self._stream(audio.to(self._encoder.mel.mean))

    def init_state(self, rows: int) -> Any:
        return self._stream.init_state(rows)

    def step(self, audio: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        return self._stream.step(audio.to(self._encoder.mel.mean), state, mask)

    @torch.no_grad()
    def clip_features(self, audio: Tensor) -> Tensor:
        """Hidden states [row, frame, width] of whole clips [row, sample]: what centroids are fitted on."""
        found: Tensor = self._encoder(audio.to(self._encoder.mel.mean))
        return found

    def token_vectors(self) -> Tensor | None:
        """[token, code_dim], where tokens are a track's own: what sounds alike lies close by."""
        return None if self._vectors is None else self._vectors(torch.arange(self.vocabulary)[None])[0]


def track_semantics(tokenizer: Tokenizer, role: Role = "vocals") -> DuoTokSemantics:
    """A track's own tokens."""
    return DuoTokSemantics(
        tokenizer.encoder,
        lambda hidden: tokenizer.tokens(hidden, role),
        tokenizer.config.entries,
        lambda tokens: tokenizer.vectors(tokens, role),
    )


def clustered_semantics(encoder: Encoder, centroids: Tensor) -> DuoTokSemantics:
    """The nearest of `centroids` [token, width] to each hidden state: fewer tokens than a track has.

    Raises:
        ValueError: the centroids do not fit.
    """
    if centroids.dim() != 2 or centroids.shape[1] != encoder.config.width:
        raise ValueError(f"centroids are {list(centroids.shape)}, must be [token, {encoder.config.width}]")
    return DuoTokSemantics(encoder, lambda hidden: nearest(hidden, centroids.to(hidden)), len(centroids))
