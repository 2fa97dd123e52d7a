"""What a codec and a semantic encoder offer to the model families, offline and as streams.

Audio is [row, 1, sample] at the codec's own rate. The `*_step` methods take any whole number of hops (samples in) or
frames (codes in), leave rows alone where `mask` [row] is false, and put the offline result out later by the declared
latency: what they give for the time before the stream's start is to be dropped.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

from torch import Tensor


class Codec(Protocol):
    """Audio to discrete frames and back."""

    sample_rate: int
    frame_rate: Fraction  # frames per second
    hop: int  # samples per frame
    codebooks: int
    codebook_size: int
    encode_latency: int  # samples by which `encode_step` is late; a multiple of `hop`
    decode_latency: int  # samples by which `decode_step` is late

    def encode(self, audio: Tensor) -> Tensor:
        """[row, 1, n * hop] -> int64 [row, codebook, n]."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """int64 [row, codebook, n] -> [row, 1, n * hop]; `codes` may hold fewer codebooks, the first ones."""
        ...

    def init_encode_state(self, rows: int) -> Any: ...

    def encode_step(self, audio: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]: ...

    def init_decode_state(self, rows: int) -> Any: ...

    def decode_step(self, codes: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]: ...


class SemanticEncoder(Protocol):
    """Audio to one token per frame that says what is played and not how it sounds."""

    sample_rate: int
    frame_rate: Fraction  # frames per second
    hop: int  # samples per frame
    vocabulary: int
    lookahead: int  # samples: frame f needs input up to (f + 1) * hop + lookahead

    def encode(self, audio: Tensor) -> Tensor:
        """[row, 1, n * hop] -> int64 [row, n]."""
        ...

    def init_state(self, rows: int) -> Any: ...

    def step(self, audio: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """[row, 1, n * hop] -> tokens [row, n], late by ceil(lookahead / hop) frames."""
        ...
