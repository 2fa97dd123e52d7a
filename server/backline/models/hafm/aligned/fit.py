"""Whether aligned stages fit what stands before and behind them."""

from __future__ import annotations

from dataclasses import asdict

from backline.codecs.convnext import ConvNeXtCodecConfig
from backline.codecs.tables import EncodecConfig
from backline.models.hafm.aligned.config import BAND, BEAT, CHORD, LAG, VOICE, AlignedConfig
from backline.models.hafm.band import CODEC_RATE
from backline.models.hafm.score import VOICE_VOCABULARY

# By stage, those that exist when it runs.
KNOWN_SOURCES = {"semantic": (VOICE, BEAT, LAG, CHORD), "acoustic": (BEAT, BAND)}


def problems(network: AlignedConfig, codec: ConvNeXtCodecConfig | EncodecConfig, vocabulary: int) -> list[str]:
    """What keeps the two stages, the codec and a semantic encoder of so many tokens from working together."""
    semantic, acoustic = network.semantic, network.acoustic
    predicted = (acoustic.codebooks, acoustic.vocabulary, acoustic.rate)
    has = (codec.codebooks, codec.codebook_size, CODEC_RATE // codec.hop)
    score = (semantic.codebooks, semantic.vocabulary, semantic.rate)
    found = []
    if predicted != has:
        found.append(f"the acoustic stage predicts {_codes(*predicted)}, the codec has {_codes(*has)}")
    if score != (BAND.codebooks, BAND.vocabulary, BAND.rate):
        found.append(
            f"the semantic stage predicts {_codes(*score)}, "
            f"a score has {_codes(BAND.codebooks, BAND.vocabulary, BAND.rate)}"
        )
    if any(semantic.delays):
        found.append(f"[network.semantic] has delays {list(semantic.delays)}: it can have none")
    if vocabulary != VOICE_VOCABULARY:
        found.append(f"aligned stages know {VOICE_VOCABULARY} vocal tokens, the semantic encoder has {vocabulary}")
    for name, stage in network.stages().items():
        known = {source.name: source for source in KNOWN_SOURCES[name]}
        unknown = sorted({source.name for source in stage.sources} - known.keys())
        if unknown:
            found.append(f"[network.{name}] is conditioned on {', '.join(unknown)}, which is not there when it runs")
        found += [
            f"[network.{name}] takes {source.name} as {asdict(source)}: it is made as {asdict(known[source.name])}"
            for source in stage.sources
            if source.name in known and source != known[source.name]
        ]
    return found


def _codes(codebooks: int, entries: int, rate: int) -> str:
    return f"{codebooks} codebooks of {entries} at {rate} frames a second"
