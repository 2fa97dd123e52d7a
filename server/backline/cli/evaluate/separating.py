"""`backline evaluate` of what takes songs apart: separators, their codecs, and the labels of a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options
from backline.cli.console import told_to_user
from backline.cli.evaluate.parts import (
    Beside,
    EvaluationSeed,
    Output,
    PackArgument,
    Pieces,
    Recordings,
    WorldName,
    check_outputs,
    described,
    evaluate,
    judged_songs,
    pick_opinions,
    progress_bar,
    resident,
    separating,
    session_setting,
    show,
)

if TYPE_CHECKING:
    from backline.evaluation.live import Sound


StemsPicture = Annotated[
    Path | None, typer.Option("--picture", metavar="OUT.png", help="Where to draw the stems of a song, true and found.")
]
Visqol = Annotated[
    bool, typer.Option("--visqol/--no-visqol", help="Whether to measure ViSQOL, which takes most of the time.")
]
Dnsmos = Annotated[
    bool, typer.Option("--dnsmos", help="Say what listeners would of the vocals by themselves; needs speechmos.")
]
Nisqa = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="weights/nisqa.tar of gabrielmittag/NISQA (CC BY-NC-SA 4.0): say by it what listeners would of the vocals "
        "by themselves, as the paper of MSS-LM does.",
    ),
]
CodecRun = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Judge the codec of this run of `backline train stems-pack`, not the pack's.", exists=True
    ),
]
Separated = Annotated[bool, typer.Option("--separate/--no-separate", help="Whether the pack separates as well.")]


@evaluate.command()
def codec(
    pack: PackArgument = "default",
    packs: options.PackFolders = None,
    songs: options.SongsToJudge = None,
    pieces: Pieces = 12,
    world: WorldName = None,
    output: Output = None,
) -> None:
    """Measure a pack's codec: fidelity, use of its codebooks, buzz, and how well a small model predicts its tokens.

    Example: [cyan]backline evaluate codec default -o codec.json[/]

    On real bands: [cyan]backline evaluate codec default --songs corpus[/]
    """
    check_outputs(output)

    from backline.corpus.multitrack import has_band
    from backline.evaluation.codec import bands, evaluate_codec, learnt_from, pack_codec
    from backline.evaluation.plan import Plan
    from backline.measures.report import Report
    from backline.music.seeds import TEST_SEED

    with told_to_user():
        opened = options.find_pack(pack, packs)
        rate = (judged := pack_codec(opened)).sample_rate
        told, source = judged_songs(opened, songs, world, rate, has_band)
        plan, learnt = Plan(source, pieces), learnt_from(source)
        with progress_bar() as say:

            def heard(seeds: Sequence[int], doing: str) -> Iterator[Sound]:
                for number, seed in enumerate(seeds):
                    say(doing, number / len(seeds))
                    yield from bands(source, [seed], rate)

            found = evaluate_codec(
                judged,
                heard(range(TEST_SEED, TEST_SEED + plan.count), "encoding and decoding"),
                heard(learnt, "encoding, then learning"),
            )
    notes = plan.notes()
    if not learnt:
        notes.append("how predictable the tokens are takes training songs, and there are none")
    show(
        Report(
            kind="codec",
            pack=f"{opened.name} {opened.version}",
            settings={**told, "songs_judged": plan.count, "songs_learnt": len(learnt)},
            rows=found.rows(),
            gates=found.gates(),
            notes=notes,
        ),
        output,
    )


@evaluate.command()
def separation(
    pack: PackArgument = "stems",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    songs: options.SongsToJudge = None,
    pieces: Pieces = 12,
    world: WorldName = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    settings: options.Settings = None,
    seed: EvaluationSeed = 0,
    visqol: Visqol = True,
    dnsmos: Dnsmos = False,
    nisqa: Nisqa = None,
    beside: Beside = None,
    picture: StemsPicture = None,
    output: Output = None,
) -> None:
    """Separate mixtures of held-out songs, live, and measure every stem: SI-SDR, SDR, log-mel distance, ViSQOL.

    Beside it stand the mixture itself, an ideal mask, harmonic against percussive, the pack's codec and, given, others;
    and the tokens of a pack that tells some, decoded as the paper of MSS-LM does.

    Example: [cyan]backline evaluate separation stems --picture stems.png -o separation.json[/]

    On MUSDB18-HQ: [cyan]backline evaluate separation stems --songs musdb18hq:/data/musdb18hq --pieces 50[/]

    Beside Spleeter: [cyan]backline packs pull spleeter-4stems[/], then
    [cyan]backline evaluate separation stems --beside spleeter-4stems[/]

    With what listeners would say of the voice: [cyan]backline evaluate separation stems --dnsmos --nisqa nisqa.tar[/]
    """
    parameters = options.parse_settings(settings)
    check_outputs(output, picture)

    from backline.evaluation.codec import pack_codec
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import MSS_LM, MSS_LM_VOCALS
    from backline.evaluation.separation import evaluate_separation, pictured, session, token_settings
    from backline.evaluation.separation_baselines import resynthesis
    from backline.evaluation.truth import has_parts
    from backline.measures.pictures import plot_spectrograms
    from backline.measures.report import Report
    from backline.measures.separation import check_packages
    from backline.models.errors import PackError
    from backline.music.stems import SAMPLE_RATE

    with told_to_user():
        check_packages(visqol)
        opinions = pick_opinions(dnsmos, nisqa, SAMPLE_RATE)
        opened = options.find_pack(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, False, parameters)
        told, source = judged_songs(opened, songs, world, SAMPLE_RATE, has_parts)
        stream = resident(opened, device)
        judged = session(stream, setting)
        others = {name: session(stream, way) for name, way in token_settings(stream.spec, setting).items()}
        others |= separating({name: options.find_pack(name, packs) for name in beside or []}, device)
        try:
            coded, not_coded = resynthesis(pack_codec(opened)), []
        except PackError as error:
            coded, not_coded = None, [f"nothing is compared with coded stems: {error}"]
        plan = Plan(source, pieces, seed)
        with progress_bar() as say:
            rows, gates, notes = evaluate_separation(judged, plan, others, coded, visqol, say, opinions)
            if picture is not None:
                say("drawing", 0.0)
                signals = pictured(judged, source)
                plot_spectrograms(picture, signals, SAMPLE_RATE, columns=len(signals) // 2)
    told |= described(setting, plays_along=False)
    show(
        Report(
            kind="separation",
            pack=f"{opened.name} {opened.version}",
            settings={**told, "pieces": plan.count, "seed": seed},
            rows=rows,
            gates=gates,
            notes=[*notes, *not_coded],
            quoted=[MSS_LM, MSS_LM_VOCALS],
        ),
        output,
    )


@evaluate.command()
def voices(
    pack: PackArgument = "stems",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    pieces: Pieces = 4,
    run: CodecRun = None,
    separate: Separated = True,
    recordings: Recordings = None,
    seed: EvaluationSeed = 0,
    output: Output = None,
) -> None:
    """Measure which voices a stems pack's codec can write and its network finds: composed, sung by people, recorded.

    Example: [cyan]backline evaluate voices stems --pieces 4 -o voices.json[/]

    The codec of a training run, as it stands: [cyan]backline evaluate voices stems --run runs/stems --no-separate[/]
    """
    check_outputs(output)

    from backline.codecs.hcodec.load import hcodec
    from backline.corpus.separator import stem_ports
    from backline.evaluation.separation import session
    from backline.evaluation.voices import evaluate_voices
    from backline.measures.report import Report
    from backline.packs.pack import read_tensors
    from backline.training.run_folder import last_entry
    from backline.training.stems_pack import StemsRecipe, best_codec

    with told_to_user():
        opened = options.find_pack(pack, packs)
        stem_ports(opened.spec())
        if run is None:
            judged = hcodec(opened.config.get("codec", {}), read_tensors(opened))
        else:
            judged = best_codec(run, StemsRecipe.of(1, seed, device, StemsRecipe().songs, opened))
        judged.require_encoding()
        finder = None
        if separate:
            separated = session(resident(opened, device), session_setting(opened.spec(), None, None, False, {}))

            def finder(mixed: Sound, number: int) -> Sound:
                return separated(mixed, seed + number)["vocals"]

        with progress_bar() as say:
            rows, gates = evaluate_voices(judged, finder, pieces, recordings, say)
    of = {} if run is None else {"codec_of": str(run), "steps": last_entry(run / "codec")["step"]}
    show(
        Report(
            kind="voices",
            pack=f"{opened.name} {opened.version}",
            settings={"pieces": pieces, "seed": seed, **of},
            rows=rows,
            gates=gates,
        ),
        output,
    )


@evaluate.command()
def labels(
    pieces: Pieces = 12,
    world: Annotated[str, typer.Option("--world", help="What the pieces are like.")] = "wide",
    f0: Annotated[str, typer.Option(metavar="TOOL", help="auto, swift-f0, torchfcpe or yin.")] = "auto",
    output: Output = None,
) -> None:
    """Measure what `backline data label` hears against what is true of composed songs, from their stems and their mix.

    Example: [cyan]backline evaluate labels --pieces 24 -o labels.json[/]
    """
    check_outputs(output)

    from backline import __version__
    from backline.corpus.trackers import pick_f0
    from backline.evaluation.labels import NOTES, evaluate_labels
    from backline.measures.report import Report
    from backline.music.world import WORLDS

    options.check_among("world", world, WORLDS)
    with told_to_user(), progress_bar() as say:
        tool = pick_f0(f0)
        rows = evaluate_labels(pieces, WORLDS[world], tool, say)
    settings = {"world": world, "pieces": pieces, "f0": tool}
    show(Report("labels", f"backline {__version__}", settings, rows, notes=NOTES), output)
