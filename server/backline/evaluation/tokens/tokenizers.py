"""What makes the tokens of a song's two tracks, whatever it is: what the protocol asks of it, and those that we have.

mine = DualTokenizer("mine", {VOCALS: tokenizer, ACCOMPANIMENT: other})     # each a Tokenizer
pack_tokenizers(read_pack(folder))                                          # by the pack's codec and its semantics
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec, SemanticEncoder
from backline.codecs.clustered import ClusteredEncoder
from backline.codecs.convnext import ConvNeXtCodec
from backline.codecs.duotok.codec import DuoTokCodec
from backline.codecs.duotok.config import ROLES
from backline.codecs.duotok.load import load as load_tokenizer
from backline.codecs.duotok.renderer import Renderer as DuoTokRenderer
from backline.codecs.duotok.renderer import read_renderers
from backline.codecs.encodec import EncodecStream
from backline.codecs.harmony import HarmonyEncoder
from backline.codecs.hcodec.windowed import WindowedHCodec
from backline.codecs.mel_clusters import MelClusters
from backline.codecs.vae.load import load as load_vae
from backline.evaluation.codec import pack_codec
from backline.models.errors import PackError
from backline.models.hafm.load import load_encoder
from backline.packs.pack import Pack, read_tensors

Sound = NDArray[np.float32]  # [sample], mono

VOCALS, ACCOMPANIMENT = "vocals", "accompaniment"
TRACKS: tuple[str, ...] = ROLES


class Tokenizer(Protocol):
    """What makes tokens of one track."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        ...

    @property
    def frame_rate(self) -> Fraction: ...

    @property
    def sizes(self) -> Sequence[int]:
        """Entries, by codebook."""
        ...

    def encode(self, audio: Tensor) -> Tensor:
        """[row, 1, n * hop] -> int64 [row, codebook, n]."""
        ...

    def vectors(self, codes: Tensor) -> Tensor:
        """What the codes [codebook, n] stand for, [n, dimension]: all that a probe may see (appendix B.2)."""
        ...


class Renderer(Protocol):
    """What makes sound of one track's tokens."""

    @property
    def sample_rate(self) -> int: ...

    def render(self, codes: Tensor) -> Tensor:
        """int64 [codebook, n] -> [sample], as long as what was encoded or longer."""
        ...


@dataclass(frozen=True)
class DualTokenizer:
    """A tokenizer of both tracks, which share frames; and what its tokens are made sound by."""

    name: str
    tracks: Mapping[str, Tokenizer]  # by TRACKS
    own: Mapping[str, Renderer] = field(default_factory=dict)  # its own decoder, by track
    # The same decoder for every tokenizer, trained for as many steps on each one's tokens (appendix B.3.1).
    matched: Mapping[str, Renderer] = field(default_factory=dict)
    gated: bool = False  # whether it is held to the gates of a pack that ships

    def __post_init__(self) -> None:
        rates = {self.tracks[track].frame_rate for track in TRACKS}
        if len(rates) > 1:
            raise ValueError(
                f"{self.name} makes {' and '.join(map(str, rates))} frames a second: use one rate for both"
            )

    @property
    def frame_rate(self) -> Fraction:
        return self.tracks[VOCALS].frame_rate

    @torch.inference_mode()
    def encode(self, track: str, sound: Sound) -> Tensor:
        """Codes int32 [codebook, frame] of a track [sample] at its tokenizer's rate, the last frame cut off if half."""
        tokenizer = self.tracks[track]
        whole = torch.from_numpy(sound[: len(sound) // tokenizer.hop * tokenizer.hop])
        return tokenizer.encode(whole[None, None])[0].cpu().int()


class CodecTokens:
    """A codec's codes, of whichever track: a `Tokenizer` and a `Renderer`. They stand for what its decoder is given."""

    def __init__(self, codec: Codec) -> None:
        """Raises ValueError: nothing is known that its codes stand for."""
        self.codec = codec
        self.sample_rate, self.hop, self.frame_rate = codec.sample_rate, codec.hop, codec.frame_rate
        self.sizes = (codec.codebook_size,) * codec.codebooks
        self.dequantized = dequantizer(codec)

    def encode(self, audio: Tensor) -> Tensor:
        return self.codec.encode(audio)

    @torch.inference_mode()
    def vectors(self, codes: Tensor) -> Tensor:
        return self.dequantized(codes[None].long())[0]

    @torch.inference_mode()
    def render(self, codes: Tensor) -> Tensor:
        return self.codec.decode(codes[None].long())[0, 0].cpu()


def dequantizer(codec: Codec) -> Callable[[Tensor], Tensor]:
    """What makes of codes [row, codebook, n] the vectors that the codec's decoder is given, [row, n, dimension].

    Raises:
        ValueError: nothing is known that its codes stand for.
    """
    match codec:
        case ConvNeXtCodec():
            return lambda codes: codec.quantizer.decode(codes).mT
        case EncodecStream():
            return lambda codes: codec.dequantize(codes).mT
        case WindowedHCodec():
            return lambda codes: codec.vectors(codes).mT
        case DuoTokCodec():
            return lambda codes: codec.tokenizer.vectors(codes[:, 0], codec.role)
    raise ValueError(
        f"the codes of {type(codec).__name__} stand for no vectors that are known here: give a ConvNeXt codec, "
        "EnCodec, HCodec or a DuoTok's"
    )


class SemanticTokens:
    """A semantic encoder's tokens, of whichever track: a `Tokenizer`. They stand for centroids."""

    def __init__(self, encoder: SemanticEncoder) -> None:
        self.encoder = encoder
        self.sample_rate, self.hop, self.frame_rate = encoder.sample_rate, encoder.hop, encoder.frame_rate
        self.sizes = (encoder.vocabulary,)
        if isinstance(encoder, HarmonyEncoder):
            self.centroids = encoder.tables.centroids
        elif isinstance(encoder, ClusteredEncoder):
            self.centroids = encoder.centroids.cpu()
        else:
            raise ValueError(
                f"the tokens of {type(encoder).__name__} stand for no vectors that are known here: give the pack that "
                "they are taken from"
            )

    def encode(self, audio: Tensor) -> Tensor:
        return self.encoder.encode(audio)[:, None]

    def vectors(self, codes: Tensor) -> Tensor:
        return self.centroids[codes[0].long()]


class DuoTokSound:
    """A `Renderer` of a DuoTok's: the whole track, in the paper's 50 steps."""

    def __init__(self, renderer: DuoTokRenderer) -> None:
        self.renderer, self.sample_rate = renderer, renderer.vae.sample_rate

    def render(self, codes: Tensor) -> Tensor:
        return torch.from_numpy(self.renderer.render(codes[0].long().numpy()).mean(axis=0))


def codec_tokenizer(name: str, codec: Codec) -> DualTokenizer:
    """One codec for both tracks."""
    tokens = CodecTokens(codec)
    return DualTokenizer(name, dict.fromkeys(TRACKS, tokens), own=dict.fromkeys(TRACKS, tokens))


def semantic_tokenizer(name: str, encoder: SemanticEncoder) -> DualTokenizer:
    """One semantic encoder for both tracks."""
    return DualTokenizer(name, dict.fromkeys(TRACKS, SemanticTokens(encoder)))


def duotok_tokenizer(pack: Pack, device: str = "cpu") -> DualTokenizer:
    """Both tracks of a DuoTok pack, and its renderers: those that another tokenizer's are to be matched with.

    Raises:
        PackError: tables or tensors do not fit.
    """
    tensors, config = read_tensors(pack), pack.config
    sounds: dict[str, Renderer] = {}
    try:
        tokenizer = load_tokenizer(config.get("tokenizer", {}), tensors)
        if "renderer" in config:
            vae = load_vae(config.get("vae", {}), tensors).to(device)
            for role, network in read_renderers(config["renderer"], tensors).items():
                vectors = partial(tokenizer.vectors, role=role)
                sounds[role] = DuoTokSound(DuoTokRenderer(network, vae, vectors, device, "float32"))
    except ValueError as error:
        raise PackError([str(error)], pack.name) from error
    tracks: dict[str, Tokenizer] = {role: CodecTokens(DuoTokCodec(tokenizer, role)) for role in ROLES}
    return DualTokenizer(pack.name, tracks, own=sounds, matched=sounds, gated=True)


def pack_tokenizers(pack: Pack, device: str = "cpu") -> list[DualTokenizer]:
    """What a pack makes tokens with: a DuoTok's tokenizer; or its codec, and what it listens with.

    Args:
        device: where a DuoTok's renderers run.

    Raises:
        PackError: it does neither, or its tensors do not fit.
    """
    if pack.family == "duotok":
        return [duotok_tokenizer(pack, device)]
    found = []
    if "codec" in pack.config:
        found.append(codec_tokenizer(f"{pack.name}, codec", pack_codec(pack)))
    if "semantics" in pack.config:
        try:
            encoder = load_encoder(pack.config["semantics"], read_tensors(pack), "cpu")
            kind = pack.config["semantics"].get("kind", "harmony")
            found.append(semantic_tokenizer(f"{pack.name}, {kind}", encoder))
        except ValueError as error:
            raise PackError([str(error)], pack.name) from error
    if not found:
        raise PackError(["it makes no tokens: give a pack with a [codec] or [semantics] table"], pack.name)
    return found


def mel_tokenizer(voices: Iterable[Sound], bands: Iterable[Sound], entries: int) -> DualTokenizer:
    """k-means of mel frames, each track's own, on sounds at MelClusters' rate.

    Raises:
        ValueError: there are too few frames for so many entries.
    """
    return DualTokenizer(
        "k-means of mel",
        {
            track: MelClusters.fit(map(torch.from_numpy, sounds), entries)
            for track, sounds in zip(TRACKS, (voices, bands), strict=True)
        },
    )
