"""`backline evaluate` of what is asked for by name: of the towers that hear prompts, and of MGE-LDM's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backline.cli import options
from backline.cli.console import told_to_user
from backline.cli.evaluate.parts import (
    Beside,
    EvaluationSeed,
    Musicnn,
    Output,
    PackArgument,
    Pieces,
    Recordings,
    Vggish,
    WorldName,
    check_outputs,
    evaluate,
    judged_songs,
    pick_embeddings,
    progress_bar,
    separating,
    show,
)

Steps = Annotated[
    int, typer.Option(help="Steps in which latents are denoised; each asks the network once, guided twice.", min=1)
]
Guidance = Annotated[
    float,
    typer.Option(
        help="How far away from what nobody asked for: 1 is not at all, and halves the work.",
        min=0,
        callback=options.finite,
    ),
]
Sounds = Annotated[
    Path | None, typer.Option("--picture", metavar="OUT.png", help="Where to draw what is heard, true and made.")
]


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
    """Measure whether towers find what is asked for: by name, and by words that they were never taught.

    With MiniLM, where it is installed, and without it. Of recordings it tells which names are nearest.

    Example: [cyan]backline evaluate prompts runs/mge --picture confusion.png -o prompts.json[/]
    """
    check_outputs(output, picture)

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
        readers = Towers(network, minilm_if_there()).apart()
        with progress_bar() as say:
            found = evaluate_prompts(readers, source, pieces, say)
    notes = [f"{found.words} held-out words could be asked for"]
    notes += [f"{row} misses: {', '.join(words)}" for row, words in found.missed.items() if words]
    for name, sound in recorded(recordings, rate).items():
        told = [f"{label} {likeness:.2f}" for label, likeness in nearest_names(readers[0], sound)]
        notes.append(f"{name} is nearest to {', '.join(told) or 'nothing: it is silent, or too short'}")
    if picture is not None:
        plot_confusion(picture, list(INSTRUMENTS), found.confusion)
    settings = {"world": world, "pieces": pieces, "steps": last_entry(run / PART)["step"]}
    show(Report("prompts", f"backline {__version__}", settings, found.rows, found.gates, notes), output)


@evaluate.command()
def extraction(
    pack: PackArgument = "mge",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    songs: options.SongsToJudge = None,
    pieces: Pieces = 12,
    world: WorldName = None,
    steps: Steps = 1,
    guidance: Guidance = 1.0,
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation", help="Take 1 to 32 steps, guidance, and RePaint in place of each track's own times as well."
        ),
    ] = False,
    beside: Beside = None,
    seed: EvaluationSeed = 0,
    picture: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Where to draw which stems are taken for which.")
    ] = None,
    output: Output = None,
) -> None:
    """Ask held-out songs for each of their stems by name, and measure what comes: log-mel distance, SI-SDR, which stem
    it is nearest to. And for what is not there, and by words that nothing was taught.

    Beside it stand the mixture, an ideal mask, harmonic against percussive, the VAE alone and, given, separators.

    Example: [cyan]backline evaluate extraction mge --beside stems --picture confusion.png -o extraction.json[/]

    On MUSDB18-HQ: [cyan]backline evaluate extraction mge --songs musdb18hq:/data/musdb18hq --pieces 50[/]

    Steps, guidance and RePaint: [cyan]backline evaluate extraction mge --ablation --pieces 4[/]
    """
    check_outputs(output, picture)

    from backline.corpus.labelled import has_labels
    from backline.evaluation import queried
    from backline.evaluation.extraction import ablations, evaluate_extraction, readout_of
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import MGE_EXTRACTION, MGE_EXTRACTION_REAL, MGE_REPAINT
    from backline.measures.queries import plot_confusion
    from backline.measures.report import Report
    from backline.measures.separation import check_packages
    from backline.models.mge.offline import Sampling
    from backline.music.stems import SAMPLE_RATE

    with told_to_user():
        check_packages(False)
        opened = options.find_pack(pack, packs)
        players = queried.players(opened, options.pick_device(device))
        told, source = judged_songs(opened, songs, world, SAMPLE_RATE, has_labels)
        others = separating({name: options.find_pack(name, packs) for name in beside or []}, device)
        sampling, plan = Sampling(steps, guidance), Plan(source, pieces, seed)
        readers = {hears: queried.extraction(each, sampling, SAMPLE_RATE) for hears, each in players.items()}
        hears, player = next(iter(players.items()))
        readout = readout_of(opened)
        with progress_bar() as say:
            found = evaluate_extraction(
                readers[hears],
                readout,
                plan,
                queried.through_vae(player, SAMPLE_RATE),
                readers,
                others,
                ablations(player, sampling) if ablation else {},
                say,
            )
    if picture is not None:
        plot_confusion(picture, found.names, found.confusion)
    settings = {"pieces": plan.count, "seed": seed, "steps": steps, "guidance": guidance}
    show(
        Report(
            kind="extraction",
            pack=f"{opened.name} {opened.version}",
            settings={**told, **settings, "prompts": hears, "readout": readout.row},
            rows=found.rows,
            gates=found.gates,
            notes=found.notes,
            quoted=[MGE_EXTRACTION, MGE_EXTRACTION_REAL, *([MGE_REPAINT] if ablation else [])],
        ),
        output,
    )


@evaluate.command()
def imputation(
    pack: PackArgument = "mge",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    songs: options.SongsToJudge = None,
    pieces: Pieces = 12,
    world: WorldName = None,
    steps: Steps = 8,
    guidance: Guidance = 2.0,
    seed: EvaluationSeed = 0,
    vggish: Vggish = None,
    musicnn: Musicnn = None,
    picture: Sounds = None,
    output: Output = None,
) -> None:
    """Take each stem out of held-out songs, ask for it by name, and measure what joins in: sub-FAD, onsets, chroma.

    Beside it stand the true stem, the same through the VAE, another song's, a shuffled one, and silence.

    Example: [cyan]backline evaluate imputation mge --pieces 24 -o imputation.json[/]

    In VGGish, as the paper: [cyan]backline evaluate imputation mge --vggish vggish-10086976.pth[/]
    """
    check_outputs(output, picture)

    from backline.corpus.labelled import has_labels
    from backline.evaluation import queried
    from backline.evaluation.imputation import RATE, evaluate_imputation, pictured
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import MGE_IMPUTATION
    from backline.measures.pictures import plot_spectrograms
    from backline.measures.report import Report
    from backline.models.mge.offline import Sampling

    with told_to_user():
        opened = options.find_pack(pack, packs)
        hears, player = next(iter(queried.players(opened, options.pick_device(device)).items()))
        told, source = judged_songs(opened, songs, world, RATE, has_labels)
        plan, embeddings = Plan(source, pieces, seed), pick_embeddings(vggish, musicnn)
        impute = queried.imputation(player, Sampling(steps, guidance), RATE)
        with progress_bar() as say:
            rows, gates, notes = evaluate_imputation(impute, plan, queried.through_vae(player, RATE), embeddings, say)
            if picture is not None:
                say("drawing", 0.0)
                plot_spectrograms(picture, pictured(impute, plan), RATE, columns=2)
    show(
        Report(
            kind="imputation",
            pack=f"{opened.name} {opened.version}",
            settings={
                **told, "pieces": plan.count, "seed": seed, "steps": steps, "guidance": guidance, "prompts": hears
            },
            rows=rows,
            gates=gates,
            notes=notes,
            quoted=[MGE_IMPUTATION],
        ),
        output,
    )  # fmt: skip


@evaluate.command()
def generation(
    pack: PackArgument = "mge",
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    songs: options.SongsToJudge = None,
    pieces: Pieces = 12,
    world: WorldName = None,
    steps: Steps = 8,
    guidance: Guidance = 2.0,
    seed: EvaluationSeed = 0,
    vggish: Vggish = None,
    musicnn: Musicnn = None,
    picture: Sounds = None,
    output: Output = None,
) -> None:
    """Generate songs, with a prompt and without, and measure how far they lie from held-out ones: FAD, level, scale.

    Beside it stand training songs, which are the floor, and the held-out songs through the VAE.

    Example: [cyan]backline evaluate generation mge --pieces 24 -o generation.json[/]
    """
    check_outputs(output, picture)

    from backline.corpus.labelled import has_labels
    from backline.evaluation import queried
    from backline.evaluation.generation import RATE, evaluate_generation
    from backline.evaluation.plan import Plan
    from backline.evaluation.published import MGE_GENERATION
    from backline.measures.pictures import plot_spectrograms
    from backline.measures.report import Report
    from backline.models.mge.offline import Sampling

    with told_to_user():
        opened = options.find_pack(pack, packs)
        hears, player = next(iter(queried.players(opened, options.pick_device(device)).items()))
        told, source = judged_songs(opened, songs, world, RATE, has_labels)
        plan, embeddings = Plan(source, pieces, seed), pick_embeddings(vggish, musicnn)
        generate = queried.generation(player, Sampling(steps, guidance), RATE)
        with progress_bar() as say:
            rows, notes, sounds = evaluate_generation(
                generate, plan, queried.through_vae(player, RATE), embeddings, say
            )
    if picture is not None:
        plot_spectrograms(picture, sounds, RATE)
    show(
        Report(
            kind="generation",
            pack=f"{opened.name} {opened.version}",
            settings={
                **told, "pieces": plan.count, "seed": seed, "steps": steps, "guidance": guidance, "prompts": hears
            },
            rows=rows,
            notes=notes,
            quoted=[MGE_GENERATION],
        ),
        output,
    )  # fmt: skip
