"""Whether interleaved stages fit each other, and what stands before and behind them."""

from __future__ import annotations

from backline.codecs.convnext import ConvNeXtCodecConfig
from backline.codecs.tables import EncodecConfig
from backline.models.hafm.band import CODEC_RATE
from backline.models.hafm.interleaved.band import PREDICTED
from backline.models.hafm.interleaved.config import InterleavedConfig
from backline.models.hafm.sources import VOCAL

KNOWN_SOURCES = {  # stage -> sources that exist when it runs
    "semantic": {"vocal", "transport"},
    "coarse": {"vocal", "transport", "instrumental"},
    "fine": {"vocal", "transport", "instrumental", "coarse"},
}


def problems(network: InterleavedConfig, codec: ConvNeXtCodecConfig | EncodecConfig, vocabulary: int) -> list[str]:
    """What keeps the stages, the codec and a semantic encoder of so many tokens from working together."""
    found = []
    predicted = network.coarse.quantizers + network.fine.quantizers
    if predicted != codec.codebooks:
        found.append(f"coarse and fine stage predict {predicted} codebooks, the codec has {codec.codebooks}")
    entries = {network.coarse.vocabulary, network.fine.vocabulary, codec.codebook_size}
    if len(entries) > 1:
        found.append(
            f"coarse and fine stage predict {network.coarse.vocabulary} and {network.fine.vocabulary} entries, a "
            f"codebook of the codec has {codec.codebook_size}"
        )
    if network.coarse.rate != CODEC_RATE // codec.hop:
        found.append(
            f"[network.coarse] predicts {network.coarse.rate} frames a second, the codec has {CODEC_RATE // codec.hop}"
        )
    if network.coarse.rate != network.fine.rate:
        found.append(f"coarse and fine stage run at {network.coarse.rate} and {network.fine.rate} frames a second")
    for name, stage in network.stages().items():
        known = KNOWN_SOURCES[name] - ({"instrumental"} if network.semantic is None else set())
        unknown = sorted({source.name for source in stage.sources} - known)
        found += [
            f"[network.{name}] knows {source.vocabulary} vocal tokens, the semantic encoder has {vocabulary}"
            for source in stage.sources
            if source.name == VOCAL.name and source.vocabulary != vocabulary
        ]
        if unknown:
            found.append(f"[network.{name}] is conditioned on {', '.join(unknown)}, which is not there when it runs")
    for name, made in network.stages().items():
        becomes = PREDICTED[name]
        for other, stage in network.stages().items():
            for source in stage.sources:
                fits = (source.rate, source.codebooks, source.vocabulary) == (
                    made.rate,
                    made.quantizers,
                    made.vocabulary,
                )
                if source.name == becomes and not fits:
                    found.append(f"[network.{other}] takes {becomes} in another form than [network.{name}] makes it")
    return found
