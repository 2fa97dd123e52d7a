"""`backline evaluate`: how well a pack plays, in figures: a table here, and JSON where it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.corpus.corpus import Wanted
    from backline.corpus.songs import Songs
    from backline.evaluation.live import Setting, Sound
    from backline.evaluation.separation import Opinion
    from backline.measures.embeddings import Embedding
    from backline.measures.report import Report
    from backline.models.stream import Stream, StreamSpec
    from backline.music.world import World
    from backline.packs.pack import Pack

evaluate = typer.Typer(
    help="Measure what a pack plays, on pieces that no training hears; figures with their standard errors.",
    no_args_is_help=True,
)

PackArgument = Annotated[str, typer.Argument(metavar="[PACK]", help="Name of the pack, see `backline packs list`.")]
Pieces = Annotated[
    int,
    typer.Option(
        help="Held-out pieces, always the same ones, and at most as many as there are. More make errors smaller.", min=1
    ),
]
WorldName = Annotated[
    str | None, typer.Option("--world", help="What the pieces are like; without it, the world the pack was trained in.")
]
Beat = Annotated[bool, typer.Option("--transport/--no-transport", help="Whether the pack is told the beat.")]
Told = Annotated[
    bool, typer.Option("--key/--no-key", help="Whether the pack is told each piece's key, if it takes one.")
]
EvaluationSeed = Annotated[
    int, typer.Option(help="Of everything drawn; the pieces do not change with it.", min=0, max=1 << 40)
]
Vggish = Annotated[
    Path | None,
    typer.Option(help="VGGish weights of torchvggish: take the Frechet distance in VGGish as well, as papers do."),
]
Musicnn = Annotated[
    Path | None,
    typer.Option(
        help="The wheel of `pip download --no-deps musicnn==0.1.0`, or a folder of it: take the Frechet distance in "
        "musicnn's embedding as well."
    ),
]
VoiceSeparator = Annotated[
    str,
    typer.Option(
        "--separator", metavar="PACK", help="What cuts voices out of mixes for FAD_s, beside an oracle's mask; or none."
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT.json", help="Where to write the figures.")]
Recordings = Annotated[
    Path | None,
    typer.Option(
        help="Folder of recordings to play to as well.", envvar="BACKLINE_AUDIO", exists=True, file_okay=False
    ),
]
Picture = Annotated[Path | None, typer.Option(metavar="OUT.png", help="Where to draw the grid.")]
StemsPicture = Annotated[
    Path | None, typer.Option("--picture", metavar="OUT.png", help="Where to draw the stems of a song, true and found.")
]
Beside = Annotated[
    list[str] | None,
    typer.Option(metavar="PACK", help="Another pack that separates, for comparison; may be given several times."),
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

FALLBACK_WORLD = "narrow"  # for packs that do not say in which they were trained


@evaluate.command()
def accompaniment(
    pack: PackArgument = "default",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    songs: options.SongsToJudge = None,
    pieces: Pieces = 24,
    world: WorldName = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    transport: Beat = True,
    key: Told = False,
    chords_held: Annotated[
        bool, typer.Option("--notes", help="Hold each piece's chords on a keyboard, for a pack that takes notes.")
    ] = False,
    settings: options.Settings = None,
    seed: EvaluationSeed = 0,
    separator: VoiceSeparator = "stems",
    vggish: Vggish = None,
    musicnn: Musicnn = None,
    output: Output = None,
) -> None:
    """Play along with held-out songs, live, and measure harmony, rhythm, level and Frechet audio distance.

    Beside it stand the true bands, what the codec makes of them, a shuffled and a retrieved band, and the pack offline.
    Songs from disk have no score: what needs none is measured of them.

    Example: [cyan]backline evaluate accompaniment default --pieces 24 -o default.json[/]

    On MUSDB18-HQ, as papers do: [cyan]backline evaluate accompaniment default --songs musdb18hq:/data/musdb18hq
    --pieces 50 --vggish vggish-10086976.pth[/]
    """
    parameters = options.parse_settings(settings)
    check_output(output, ".json")

    from backline.corpus.multitrack import has_voice_and_band
    from backline.evaluation.accompaniment import evaluate_accompaniment
    from backline.evaluation.codec import pack_codec
    from backline.evaluation.live import default_setting, song_rate
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import HAFM
    from backline.evaluation.separation import session
    from backline.measures.report import Report

    with told_to_user():
        opened = find(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, transport, parameters)
        setting = replace(setting, key=key, notes=chords_held)
        if chords_held and not opened.spec().takes_notes:
            raise typer.BadParameter(f"{opened.name} takes no notes: leave --notes out")
        told, source = judged_songs(opened, songs, world, song_rate(opened.spec()), has_voice_and_band)
        embeddings = pick_embeddings(vggish, musicnn)
        separators = {}
        if separator != "none":
            cutting = resident(find(separator, packs), device)
            separators[separator] = session(cutting, default_setting(cutting.spec))
        stream = resident(opened, device)
        codec = pack_codec(opened) if "codec" in opened.config else None
        plan = Plan(source, pieces, seed)
        with progress_bar() as say:
            rows, gates, notes = evaluate_accompaniment(stream, codec, plan, setting, embeddings, separators, say)
    show(
        Report(
            kind="accompaniment",
            pack=f"{opened.name} {opened.version}",
            settings={
                **told,
                "pieces": plan.count,
                "seed": seed,
                "pool": plan.pool,
                "separator": separator,
                **described(setting),
            },
            rows=rows,
            gates=gates,
            notes=notes,
            quoted=[HAFM],
        ),
        output,
    )


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
    check_output(output, ".json")

    from backline.corpus.multitrack import has_band
    from backline.evaluation.codec import bands, evaluate_codec, learnt_from, pack_codec
    from backline.evaluation.plan import Plan
    from backline.measures.report import Report
    from backline.music.seeds import TEST_SEED

    with told_to_user():
        opened = find(pack, packs)
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
def grid(
    pack: PackArgument = "default",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    pieces: Pieces = 4,
    world: WorldName = None,
    settings: options.Settings = None,
    seed: EvaluationSeed = 0,
    picture: Picture = None,
    output: Output = None,
) -> None:
    """Play with chunks of 0.4 to 3.2 s and visibilities of -2 s to the whole chunk, with and without transport.

    Example: [cyan]backline evaluate grid default --picture grid.png -o grid.json[/]
    """
    parameters = options.parse_settings(settings)
    check_output(output, ".json")
    check_output(picture, ".png")
    if picture is not None:
        check_matplotlib()

    from backline.evaluation.grid import draw_grid, evaluate_grid, grid_settings
    from backline.evaluation.live import song_rate
    from backline.evaluation.plan import Plan
    from backline.measures.report import Report

    with told_to_user():
        opened = find(pack, packs)
        wanted_settings = grid_settings(opened.spec(), parameters)
        told, songs = composed_songs(opened, world, song_rate(opened.spec()))
        stream = resident(opened, device)
        with progress_bar() as say:
            rows = evaluate_grid(stream, Plan(songs, pieces, seed), wanted_settings, say)
    report = Report(
        kind="grid",
        pack=f"{opened.name} {opened.version}",
        settings={**told, "pieces": pieces, "seed": seed, "parameters": parameters},
        rows=rows,
    )
    if picture is not None:
        draw_grid(rows, f"{report.pack}, {pieces} pieces", picture)
    show(report, output)


@evaluate.command()
def drift(
    pack: PackArgument = "default",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    minutes: Annotated[float, typer.Option(help="Length of the session.", min=1, callback=options.finite)] = 10.0,
    world: WorldName = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    transport: Beat = True,
    settings: options.Settings = None,
    seed: EvaluationSeed = 0,
    output: Output = None,
) -> None:
    """Play one long session over a chain of pieces and watch level, clipping, silence and memory.

    Example: [cyan]backline evaluate drift default --minutes 10 -o drift.json[/]
    """
    parameters = options.parse_settings(settings)
    check_output(output, ".json")

    from backline.evaluation.drift import evaluate_drift
    from backline.measures.report import Report

    with told_to_user():
        opened = find(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, transport, parameters)
        world_name, wanted = pick_world(opened, world)
        stream = resident(opened, device)
        with progress_bar() as say:
            rows, gates = evaluate_drift(stream, wanted, minutes, seed, setting, say)
    show(
        Report(
            kind="drift",
            pack=f"{opened.name} {opened.version}",
            settings={"world": world_name, "minutes": minutes, "seed": seed, **described(setting)},
            rows=rows,
            gates=gates,
        ),
        output,
    )


@evaluate.command()
def takes(
    pack: PackArgument = "default",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    pieces: Pieces = 12,
    world: WorldName = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    transport: Beat = True,
    settings: options.Settings = None,
    seed: EvaluationSeed = 0,
    output: Output = None,
) -> None:
    """Begin the same songs elsewhere with the same seed: how do chords, onsets and key agree with the first take?

    Example: [cyan]backline evaluate takes default -o takes.json[/]
    """
    parameters = options.parse_settings(settings)
    check_output(output, ".json")

    from backline.evaluation.live import song_rate
    from backline.evaluation.plan import Plan
    from backline.evaluation.takes import evaluate_takes
    from backline.measures.report import Report

    with told_to_user():
        opened = find(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, transport, parameters)
        told, songs = composed_songs(opened, world, song_rate(opened.spec()))
        stream = resident(opened, device)
        with progress_bar() as say:
            rows = evaluate_takes(stream, Plan(songs, pieces, seed), setting, say)
    show(
        Report(
            kind="takes",
            pack=f"{opened.name} {opened.version}",
            settings={**told, "pieces": pieces, "seed": seed, **described(setting)},
            rows=rows,
        ),
        output,
    )


@evaluate.command()
def robustness(
    pack: PackArgument = "default",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    seconds: Annotated[int, typer.Option(help="Length of every input.", min=20)] = 60,
    recordings: Recordings = None,
    world: WorldName = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    settings: options.Settings = None,
    seed: EvaluationSeed = 0,
    output: Output = None,
) -> None:
    """Play to silence, noise, a sine, clipped singing and recordings: does the level stay, is silence answered so?

    Example: [cyan]backline evaluate robustness default -o robustness.json[/]
    """
    parameters = options.parse_settings(settings)
    check_output(output, ".json")

    from backline.evaluation.robustness import evaluate_robustness
    from backline.measures.report import Report

    with told_to_user():
        opened = find(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, True, parameters)
        world_name, wanted = pick_world(opened, world)
        stream = resident(opened, device)
        with progress_bar() as say:
            rows, gates = evaluate_robustness(stream, wanted, seconds, seed, setting, recordings, say)
    told = {name: value for name, value in described(setting).items() if name not in ("transport", "key")}
    show(
        Report(
            kind="robustness",
            pack=f"{opened.name} {opened.version}",
            settings={"world": world_name, "seconds": seconds, "seed": seed, **told},
            rows=rows,
            gates=gates,
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
    check_output(output, ".json")
    check_output(picture, ".png")
    if picture is not None:
        check_matplotlib()

    from backline.evaluation.codec import pack_codec
    from backline.evaluation.live import default_setting
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
        opened = find(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, False, parameters)
        told, source = judged_songs(opened, songs, world, SAMPLE_RATE, has_parts)
        stream = resident(opened, device)
        judged = session(stream, setting)
        others = {name: session(stream, way) for name, way in token_settings(stream.spec, setting).items()}
        for name in beside or []:
            other = resident(find(name, packs), device)
            others[name] = session(other, default_setting(other.spec))
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
    told |= {name: value for name, value in described(setting).items() if name not in ("transport", "key")}
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
    check_output(output, ".json")

    from backline.codecs.hcodec.load import hcodec
    from backline.corpus.separator import stem_ports
    from backline.evaluation.separation import session
    from backline.evaluation.voices import evaluate_voices
    from backline.measures.report import Report
    from backline.packs.pack import read_tensors
    from backline.training.run_folder import last_entry
    from backline.training.stems_pack import StemsRecipe, best_codec

    with told_to_user():
        opened = find(pack, packs)
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
    check_output(output, ".json")

    from backline import __version__
    from backline.corpus.trackers import pick_f0
    from backline.evaluation.labels import NOTES, evaluate_labels
    from backline.measures.report import Report
    from backline.music.world import WORLDS

    if world not in WORLDS:
        raise typer.BadParameter(f"there is no world {world!r}: use {', '.join(WORLDS)}")
    with told_to_user(), progress_bar() as say:
        tool = pick_f0(f0)
        rows = evaluate_labels(pieces, WORLDS[world], tool, say)
    settings = {"world": world, "pieces": pieces, "f0": tool}
    show(Report("labels", f"backline {__version__}", settings, rows, notes=NOTES), output)


@evaluate.command()
def prompts(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The run of `backline train towers`.", exists=True, file_okay=False)
    ],
    pieces: Pieces = 64,
    world: Annotated[str, typer.Option("--world", help="What the pieces are like.")] = "ensemble",
    recordings: Recordings = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Where to draw which names are nearest to which instruments.")
    ] = None,
    output: Output = None,
) -> None:
    """Measure whether towers find what is asked for: by name, and by 40 words that they were never taught.

    With MiniLM, where it is installed, and without it. Of recordings it tells which names are nearest.

    Example: [cyan]backline evaluate prompts runs/mge --picture confusion.png -o prompts.json[/]
    """
    check_output(output, ".json")
    check_output(picture, ".png")
    if picture is not None:
        check_matplotlib()

    from backline import __version__
    from backline.evaluation.prompts import evaluate_prompts, nearest_names
    from backline.evaluation.robustness import recorded
    from backline.measures.queries import plot_confusion
    from backline.measures.report import Report
    from backline.models.mge.towers import Towers, minilm_if_there
    from backline.models.mge.words import INSTRUMENTS
    from backline.training.run_folder import last_entry
    from backline.training.towers import PART, TowersTraining, best_towers

    with told_to_user():
        network = best_towers(run / PART, TowersTraining().towers)
        rate = network.config.sample_rate
        source = options.song_source(None, None, world, rate, lambda song: True)
        minilm = minilm_if_there()
        readers = [Towers(network, reader) for reader in ([minilm] if minilm else []) + [None]]
        with progress_bar() as say:
            found = evaluate_prompts(readers, source, pieces, say)
    notes = [f"{found.words} held-out words could be asked for"]
    notes += [f"{row} misses: {', '.join(words)}" for row, words in found.missed.items() if words]
    for name, sound in recorded(recordings, rate).items():
        told = (f"{label} {likeness:.2f}" for label, likeness in nearest_names(readers[0], sound))
        notes.append(f"{name} is nearest to {', '.join(told)}")
    if picture is not None:
        plot_confusion(picture, list(INSTRUMENTS), found.confusion)
    settings = {"world": world, "pieces": pieces, "steps": last_entry(run / PART)["step"]}
    show(Report("prompts", f"backline {__version__}", settings, found.rows, found.gates, notes), output)


# ---- parts ---------------------------------------------------------------------------------------------


def find(name: str, folders: list[Path] | None) -> Pack:
    """The pack of that name, verified."""
    from backline.packs.pack import read_pack
    from backline.packs.registry import PackRegistry

    return read_pack(PackRegistry(folders or []).entry(name).folder)


def resident(pack: Pack, device: str) -> Stream:
    """The pack on a device."""
    from backline.packs.pack import load_stream

    return load_stream(pack, options.pick_device(device))


def session_setting(
    spec: StreamSpec, chunk: float | None, visibility: float | None, transport: bool, parameters: dict[str, float]
) -> Setting:
    """The pack's own setting, with what was asked for instead."""
    from backline.evaluation.live import check_setting, default_setting

    setting = replace(default_setting(spec), transport=transport, parameters=parameters)
    if chunk is not None:
        seconds = Fraction(chunk).limit_denominator(1_000_000)
        setting = replace(setting, chunk_seconds=seconds, visibility_seconds=spec.visibility(seconds))
    if visibility is not None:
        setting = replace(setting, visibility_seconds=visibility)
    check_setting(spec, setting)
    return setting


def described(setting: Setting) -> dict[str, object]:
    """For the report."""
    return {
        "chunk_seconds": float(setting.chunk_seconds),
        "visibility_seconds": setting.visibility_seconds,
        "transport": setting.transport,
        "key": setting.key,
        **({"notes": True} if setting.notes else {}),
        "parameters": dict(setting.parameters),
    }


def pick_world(pack: Pack, name: str | None) -> tuple[str, World]:
    """The world of that name; without one, that of the pack's card, if it is one of ours."""
    from backline.music.world import WORLDS

    if name is None:
        trained_in = pack.config.get("card", {}).get("world")
        name = next((known for known, world in WORLDS.items() if trained_in in (known, repr(world))), FALLBACK_WORLD)
    if name not in WORLDS:
        raise typer.BadParameter(f"there is no world {name!r}: use {', '.join(WORLDS)}")
    return name, WORLDS[name]


def composed_songs(pack: Pack, world: str | None, sample_rate: int) -> tuple[dict[str, object], Songs]:
    """Composed songs at a rate, and what the report says of them."""
    from backline.corpus.songs import Composer

    name, wanted = pick_world(pack, world)
    return {"world": name}, Composer(wanted, sample_rate)


def judged_songs(
    pack: Pack, songs: str | None, world: str | None, sample_rate: int, wanted: Wanted
) -> tuple[dict[str, object], Songs]:
    """Those of `--songs`, if they are `wanted`, or composed ones; and what the report says of them."""
    if songs is None:
        return composed_songs(pack, world, sample_rate)
    if world is not None:
        raise typer.BadParameter("--world is for composed songs: leave it out with --songs")
    return {"songs": songs}, options.songs_to_judge(songs, wanted)


def pick_embeddings(vggish: Path | None, musicnn: Path | None) -> list[Embedding]:
    """Our own, and those whose weights are given."""
    from backline.measures.embeddings import MusicEmbedding
    from backline.measures.musicnn import read_musicnn
    from backline.measures.vggish import read_vggish

    found: list[Embedding] = [MusicEmbedding()]
    if vggish is not None:
        found.append(read_vggish(vggish))
    if musicnn is not None:
        found.append(read_musicnn(musicnn))
    return found


def pick_opinions(dnsmos: bool, nisqa: Path | None, sample_rate: int) -> list[Opinion]:
    """What is to be said of voices by themselves.

    Raises:
        ValueError: a package is not installed, or a file holds no weights.
    """
    from backline.measures.dnsmos import check_dnsmos
    from backline.measures.dnsmos import dnsmos as said
    from backline.measures.nisqa import read_nisqa

    found: list[Opinion] = []
    if dnsmos:
        check_dnsmos()
        found.append(partial(said, sample_rate=sample_rate))
    if nisqa is not None:
        found.append(partial(read_nisqa(nisqa), sample_rate=sample_rate))
    return found


def check_output(path: Path | None, suffix: str) -> None:
    """Finds out before the work whether `path` can be written."""
    from backline.cli.console import UserError
    from backline.whole_file import check_target

    if path is not None and path.suffix.lower() != suffix:
        raise UserError(f"{path} does not end in {suffix}: name it so")
    if path is not None:
        check_target(path)


def check_matplotlib() -> None:
    from importlib.util import find_spec

    from backline.cli.console import UserError

    if find_spec("matplotlib") is None:
        raise UserError("a picture needs matplotlib: pip install 'backline[demo]', or leave --picture out")


@evaluate.command()
def stages(
    pack: PackArgument = "hafm",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    pieces: Pieces = 24,
    songs: options.SongsFolder = None,
    world: WorldName = None,
    chunk: Annotated[
        float | None,
        typer.Option(help="Seconds played at a time; without it clips as in the paper.", callback=options.finite),
    ] = None,
    output: Output = None,
) -> None:
    """Measure what the stages of a HAFM predict, and how much of it they owe to the voice: beside the loss with its own
    conditions, that without any and that with another song's. And how often a stream gives the whole clip's tokens.

    Example: [cyan]backline evaluate stages hafm --songs corpus -o stages.json[/]
    """
    check_output(output, ".json")

    from backline.cli.train import hafm_songs
    from backline.evaluation.stages import evaluate_stages
    from backline.measures.report import Report

    with told_to_user():
        opened = find(pack, packs)
        world_name, _ = pick_world(opened, world)
        source = hafm_songs(songs, None, world_name)
        with progress_bar() as say:
            rows, gates, notes = evaluate_stages(opened, source, pieces, options.pick_device(device), chunk, say=say)
    settings = {"songs": source.options(), "passages": pieces, "chunk_seconds": chunk}
    show(Report("stages", f"{opened.name} {opened.version}", settings, rows, gates, notes), output)


@contextmanager
def told_to_user() -> Iterator[None]:
    """What an evaluation says of a wrong value, as one line."""
    from backline.cli.console import UserError

    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A function that shows what is being done and which share of it is, on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from backline.cli.console import error_console

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        doing = ""

        def say(what: str, share: float) -> None:
            nonlocal doing
            if what != doing:
                doing = what
                bar.reset(task, description=what)
            bar.update(task, completed=share)

        yield say


def show(report: Report, output: Path | None) -> None:
    """Prints the tables and writes the figures."""
    from backline.cli.console import console, error_console, labelled
    from backline.measures.report import FiguresTable, gates_table, write_report

    said = ", ".join(f"{name} {value}" for name, value in report.settings.items() if value != {})
    console.print(f"{report.kind} of {report.pack}: {said}", soft_wrap=True)
    console.print(FiguresTable(report.rows))
    if report.gates:
        console.print(gates_table(report.gates))
    for quoted in report.quoted:
        console.print(f"quoted, not measured: {quoted.source}", soft_wrap=True)
        console.print(FiguresTable(quoted.rows))
    for note in report.notes:
        error_console.print(labelled("note", note, "yellow"), soft_wrap=True)
    if output is not None:
        write_report(output, report)
        console.print(f"written to {output}")
