"""`backline evaluate` of packs that play along: how well, how steadily, and what they owe to whom they play to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from backline.cli import options
from backline.cli.console import told_to_user
from backline.cli.evaluate.parts import (
    EvaluationSeed,
    Musicnn,
    Output,
    PackArgument,
    Pieces,
    Recordings,
    Vggish,
    WorldName,
    check_outputs,
    composed_songs,
    described,
    evaluate,
    judged_songs,
    pick_embeddings,
    pick_world,
    progress_bar,
    resident,
    separating,
    session_setting,
    show,
)

Beat = Annotated[bool, typer.Option("--transport/--no-transport", help="Whether the pack is told the beat.")]
Told = Annotated[
    bool, typer.Option("--key/--no-key", help="Whether the pack is told each piece's key, if it takes one.")
]
VoiceSeparator = Annotated[
    str,
    typer.Option(
        "--separator", metavar="PACK", help="What cuts voices out of mixes for FAD_s, beside an oracle's mask; or none."
    ),
]
Picture = Annotated[Path | None, typer.Option(metavar="OUT.png", help="Where to draw the grid.")]


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
    check_outputs(output)

    from backline.corpus.multitrack import has_voice_and_band
    from backline.evaluation.accompaniment import evaluate_accompaniment
    from backline.evaluation.codec import pack_codec
    from backline.evaluation.live import song_rate
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import HAFM
    from backline.measures.report import Report

    with told_to_user():
        opened = options.find_pack(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, transport, parameters)
        setting = replace(setting, key=key, notes=chords_held)
        if chords_held and not opened.spec().takes_notes:
            raise typer.BadParameter(f"{opened.name} takes no notes: leave --notes out")
        told, source = judged_songs(opened, songs, world, song_rate(opened.spec()), has_voice_and_band)
        embeddings = pick_embeddings(vggish, musicnn)
        separators = separating(
            {name: options.find_pack(name, packs) for name in [separator] if name != "none"}, device
        )
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
    check_outputs(output, picture)

    from backline.evaluation.grid import draw_grid, evaluate_grid, grid_settings
    from backline.evaluation.live import song_rate
    from backline.evaluation.plan import Plan
    from backline.measures.report import Report

    with told_to_user():
        opened = options.find_pack(pack, packs)
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
    check_outputs(output)

    from backline.evaluation.drift import evaluate_drift
    from backline.measures.report import Report

    with told_to_user():
        opened = options.find_pack(pack, packs)
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
    check_outputs(output)

    from backline.evaluation.live import song_rate
    from backline.evaluation.plan import Plan
    from backline.evaluation.takes import evaluate_takes
    from backline.measures.report import Report

    with told_to_user():
        opened = options.find_pack(pack, packs)
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
    check_outputs(output)

    from backline.evaluation.robustness import evaluate_robustness
    from backline.measures.report import Report

    with told_to_user():
        opened = options.find_pack(pack, packs)
        setting = session_setting(opened.spec(), chunk, visibility, True, parameters)
        world_name, wanted = pick_world(opened, world)
        stream = resident(opened, device)
        with progress_bar() as say:
            rows, gates = evaluate_robustness(stream, wanted, seconds, seed, setting, recordings, say)
    show(
        Report(
            kind="robustness",
            pack=f"{opened.name} {opened.version}",
            settings={"world": world_name, "seconds": seconds, "seed": seed, **described(setting, plays_along=False)},
            rows=rows,
            gates=gates,
        ),
        output,
    )


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
    check_outputs(output)

    from backline.cli.train import hafm_songs
    from backline.evaluation.stages import evaluate_stages
    from backline.measures.report import Report

    with told_to_user():
        opened = options.find_pack(pack, packs)
        world_name, _ = pick_world(opened, world)
        source = hafm_songs(songs, None, world_name)
        with progress_bar() as say:
            rows, gates, notes = evaluate_stages(opened, source, pieces, options.pick_device(device), chunk, say=say)
    settings = {"songs": source.options(), "passages": pieces, "chunk_seconds": chunk}
    show(Report("stages", f"{opened.name} {opened.version}", settings, rows, gates, notes), output)
