"""The language model by which tokens are judged, the same for all tokenizers (DuoTok, appendix B.1), and its figures.

A small LLaMA in place of Qwen2-1B. Unconditional: it hears both tracks, frame after frame, and predicts both; its
context is what stands before. Conditional: it hears all of the voice, then the accompaniment, of which it predicts what
comes after a prefix; both have the same rotary positions, so what sounds together is at no distance.
Heads begin at the tokens' frequencies, so that few steps are not spent on these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.evaluation.tokens.songs import Codes, Place, TokenSong, drawn, window_frames
from backline.evaluation.tokens.tokenizers import ACCOMPANIMENT, TRACKS, VOCALS, DualTokenizer
from backline.nn.learning_rate import counted_rate, set_rate
from backline.nn.llama import Llama, LlamaConfig

Mode = Literal["unconditional", "conditional"]
MODES: tuple[Mode, ...] = ("unconditional", "conditional")
EMBEDDING = 64  # dimensions of a codebook's entries, before Eq. 24 joins them
NETWORK = LlamaConfig(layers=4, width=256, heads=4, feed_forward=768)
SMALLEST, SMALLEST_RATE = LlamaConfig(layers=2, width=64, heads=2, feed_forward=128), 5e-3  # of a quick look
TOP = (1, 10, 50)
ALSO_WITHOUT = 0.5  # what counts of an entry begin at


@dataclass(frozen=True)
class LmProtocol:
    """How every tokenizer's language model is trained and asked."""

    window: float = 30.0  # seconds
    prefix: float = 2.0  # seconds of the target that are given, and of the end that context is measured on
    steps: int = 1500
    rows: int = 4  # windows of a step
    network: LlamaConfig = NETWORK
    rate: float = 1e-3  # of learning, at its highest
    seed: int = 0


@dataclass(frozen=True)
class Told:
    """What a model said of one window's tokens of one track."""

    bits: Tensor  # [codebook, frame] that each token cost
    ranks: Tensor  # int64 [codebook, frame]: how many entries were likelier


class TrackLM(nn.Module):
    """Eq. 24 in front, a head for each codebook behind."""

    def __init__(self, tokenizer: DualTokenizer, mode: Mode, protocol: LmProtocol, songs: Sequence[TokenSong]) -> None:
        """`songs`: what it is to learn from; it begins by predicting tokens as often as they occur there."""
        super().__init__()
        self.mode: Mode = mode
        self.prefix = int(protocol.prefix * tokenizer.frame_rate)
        width = protocol.network.width
        self.tables, self.joined, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for track in TRACKS:
            sizes = tokenizer.tracks[track].sizes
            # Of Eq. 24's one matrix the columns that belong to this track: what it makes of a track alone is what the
            # whole makes of it with nothing in the other's place.
            self.joined[track] = nn.Linear(EMBEDDING * len(sizes), width, bias=False)
            self.tables[track] = nn.ModuleList(nn.Embedding(entries, EMBEDDING) for entries in sizes)
            if track in predicted(mode):
                heard = torch.cat([song.codes[tokenizer.name][track] for song in songs], dim=1)
                heads = [beginning_head(own, width, entries) for own, entries in zip(heard, sizes, strict=True)]
                self.heads[track] = nn.ModuleList(heads)
        self.beginning = nn.Parameter(0.02 * torch.randn(width))
        self.trunk = Llama(protocol.network)

    def heard(self, track: str, codes: Tensor) -> Tensor:
        """One track's share of Eq. 24 [row, frame, width] of codes [row, codebook, frame]."""
        tables = self.tables[track]
        assert isinstance(tables, nn.ModuleList)
        found: Tensor = self.joined[track](torch.cat([table(codes[:, at]) for at, table in enumerate(tables)], dim=-1))
        return found

    def hidden(self, codes: Codes, kept: Tensor | None = None) -> Tensor:
        """[row, frame, width] that the heads predict from: of all frames, or of those after the prefix.

        Args:
            codes: by track [row, codebook, frame].
            kept: [row, frame] which frames of the condition are heard; in place of the others is nothing, a vector of
                zeros. Without it, all.
        """
        if self.mode == "unconditional":
            x = sum((self.heard(track, codes[track][..., :-1]) for track in TRACKS), start=torch.zeros(()))
            first = self.beginning.expand(len(codes[VOCALS]), 1, -1)
            out: Tensor = self.trunk(torch.cat([first, x], dim=1))
            return out
        source, target = self.heard(VOCALS, codes[VOCALS]), self.heard(ACCOMPANIMENT, codes[ACCOMPANIMENT][..., :-1])
        if kept is not None:
            source = source * kept[..., None]
        count = torch.arange(source.shape[1], device=source.device)
        out = self.trunk(torch.cat([source, target], dim=1), torch.cat([count, count[:-1]]))
        return out[:, source.shape[1] + self.prefix - 1 :]

    def logits(self, track: str, hidden: Tensor) -> list[Tensor]:
        """By codebook [row, frame, entry]."""
        heads = self.heads[track]
        assert isinstance(heads, nn.ModuleList)
        return [head(hidden) for head in heads]

    def loss(self, codes: Codes) -> Tensor:
        """Nats a token, the mean over frames and codebooks."""
        hidden, nats = self.hidden(codes), []
        for track in predicted(self.mode):
            wanted = codes[track][..., codes[track].shape[-1] - hidden.shape[1] :]
            for book, logits in enumerate(self.logits(track, hidden)):
                nats.append(F.cross_entropy(logits.transpose(1, 2), wanted[:, book]))
        return torch.stack(nats).mean()

    @torch.no_grad()
    def told(self, codes: Codes, kept: Tensor | None = None) -> dict[str, Told]:
        """By track that is predicted, of one window's codes by track [codebook, frame]; `kept` [frame]."""
        rows = {track: own[None] for track, own in codes.items()}
        hidden = self.hidden(rows, None if kept is None else kept[None])
        found = {}
        for track in predicted(self.mode):
            wanted = codes[track][:, codes[track].shape[-1] - hidden.shape[1] :]
            bits, ranks = [], []
            for book, logits in enumerate(self.logits(track, hidden)):
                true = logits[0].gather(1, wanted[book, :, None])  # [frame, 1]
                bits.append(F.cross_entropy(logits[0], wanted[book], reduction="none") / math.log(2))
                ranks.append((logits[0] > true).sum(1))
            found[track] = Told(torch.stack(bits).cpu(), torch.stack(ranks).cpu())
        return found


def beginning_head(codes: Tensor, width: int, entries: int) -> nn.Linear:
    """[.., width] -> logits that give every entry its share of `codes` [n], whatever is heard."""
    head = nn.Linear(width, entries)
    counts = torch.bincount(codes, minlength=entries) + ALSO_WITHOUT
    nn.init.zeros_(head.weight)
    head.bias.data.copy_((counts / counts.sum()).log())
    return head


def predicted(mode: Mode) -> tuple[str, ...]:
    return TRACKS if mode == "unconditional" else (ACCOMPANIMENT,)


def on(codes: Codes, device: torch.device) -> dict[str, Tensor]:
    return {track: own.long().to(device) for track, own in codes.items()}


class LmTraining:
    """A model in the making. What it hears depends on the protocol alone, not on the tokenizer."""

    def __init__(
        self,
        tokenizer: DualTokenizer,
        mode: Mode,
        protocol: LmProtocol,
        songs: Sequence[TokenSong],
        device: torch.device,
    ) -> None:
        self.tokenizer, self.protocol, self.device = tokenizer, protocol, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(protocol.seed)
            self.model = TrackLM(tokenizer, mode, protocol, songs).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), protocol.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.places = drawn(songs, protocol.window, protocol.steps * protocol.rows, protocol.seed)
        self.done = 0

    def step(self) -> float:
        """Nats a token, before it."""
        protocol = self.protocol
        warm_up = max(1, min(100, protocol.steps // 10))
        set_rate(self.optimizer, counted_rate(self.done, protocol.steps, protocol.rate, warm_up, protocol.rate / 20))
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for place in self.places[self.done * protocol.rows : (self.done + 1) * protocol.rows]:
            # Row by row: the logits of 32,768 entries are what fills the memory.
            codes = on(place.codes(self.tokenizer, protocol.window), self.device)
            loss = self.model.loss({track: own[None] for track, own in codes.items()}) / protocol.rows
            loss.backward()
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        return total

    def finish(self, progress: Callable[[float], None] = lambda share: None) -> TrackLM:
        """Takes the steps that are left."""
        while self.done < self.protocol.steps:
            self.step()
            progress(self.done / self.protocol.steps)
        return self.model.eval()


def step_seconds(training: LmTraining) -> float:
    """How long a step takes, by the second one."""
    training.step()
    begun = time.perf_counter()
    training.step()
    return time.perf_counter() - begun


def affordable_steps(seconds: Sequence[float], wanted: int, minutes: float | None) -> int:
    """Steps that every model may take, the same for all: at most `wanted`, in at most `minutes` for all together.

    Args:
        seconds: of a step, by model.
    """
    if minutes is None:
        return wanted
    return max(2, min(wanted, int(60 * minutes / sum(seconds))))


# ---- what is asked of a trained model ----

SHIFTED_SECONDS = 4.0
MASKED = (0.1, 0.3, 0.5, 1.0)
CONTEXTS = (2.0, 5.0, 10.0, 20.0, 30.0)  # seconds that the model hears, the measured ones included

Bits = dict[str, list[tuple[TokenSong, float]]]  # by what was asked: of every window its song and mean bits


@torch.no_grad()
def corruption_bits(model: TrackLM, tokenizer: DualTokenizer, places: Sequence[Place], protocol: LmProtocol) -> Bits:
    """Bits a token of the accompaniment with the voice as it is, and spoilt in every way (section 6.1).

    Shifts roll the voice within its window. A mismatch is the window of another song, a mask leaves out frames.
    """
    device, rate = model.beginning.device, float(tokenizer.frame_rate)
    frames = window_frames(tokenizer, protocol.window)
    found: Bits = {}

    def ask(name: str, place: Place, codes: Codes, kept: Tensor | None = None) -> None:
        bits = model.told(on(codes, device), kept)[ACCOMPANIMENT].bits
        found.setdefault(name, []).append((place.song, float(bits.mean())))

    for number, place in enumerate(places):
        codes = place.codes(tokenizer, protocol.window)
        ask("clean", place, codes)
        shifts = {"shift 1 beat": place.song.beat_seconds, "shift 1 bar": place.song.bar_seconds}
        for name, seconds in {**shifts, f"shift {SHIFTED_SECONDS:g} s": SHIFTED_SECONDS}.items():
            if seconds is not None:
                ask(name, place, {**codes, VOCALS: codes[VOCALS].roll(round(seconds * rate), dims=1)})
        draw = torch.Generator().manual_seed(protocol.seed + number)
        order = torch.rand(frames, generator=draw).argsort()
        for share in MASKED:
            kept = torch.ones(frames)
            kept[order[: round(share * frames)]] = 0
            ask(f"mask {share:g}", place, codes, kept.to(device))
        if (other := another(places, number)) is not None:
            ask("mismatch", place, {**codes, VOCALS: other.codes(tokenizer, protocol.window)[VOCALS]})
    return found


def another(places: Sequence[Place], number: int) -> Place | None:
    """The next window of another song."""
    after = [*places[number + 1 :], *places[:number]]
    return next((place for place in after if place.song is not places[number].song), None)


@torch.no_grad()
def context_bits(model: TrackLM, tokenizer: DualTokenizer, places: Sequence[Place], protocol: LmProtocol) -> Bits:
    """Bits a token of both tracks' last seconds of each window, as shares of what nothing predicts, by context.

    The same tokens every time, however much is heard before them (section 6.2).
    """
    device, rate = model.beginning.device, float(tokenizer.frame_rate)
    found: Bits = {}
    last = round(protocol.prefix * rate)
    for place in places:
        codes = place.codes(tokenizer, protocol.window)
        for seconds in CONTEXTS:
            if seconds > protocol.window:
                continue
            told = model.told(on({track: own[:, -round(seconds * rate) :] for track, own in codes.items()}, device))
            shares = [
                float(each.bits[:, -last:].mean()) / mean_index_bits(tokenizer, track) for track, each in told.items()
            ]
            found.setdefault(f"{seconds:g} s", []).append((place.song, sum(shares) / len(shares)))
    return found


def mean_index_bits(tokenizer: DualTokenizer, track: str) -> float:
    """Eq. 14."""
    sizes = tokenizer.tracks[track].sizes
    return sum(map(math.log2, sizes)) / len(sizes)


def by_song(values: Sequence[tuple[TokenSong, float]]) -> list[float]:
    """The mean of each song's windows: windows of one song are no independent pieces."""
    found: dict[int, list[float]] = {}
    for song, value in values:
        found.setdefault(id(song), []).append(value)
    return [sum(own) / len(own) for own in found.values()]


def predictions(
    model: TrackLM, tokenizer: DualTokenizer, places: Sequence[Place], protocol: LmProtocol
) -> Mapping[str, list[tuple[TokenSong, Told]]]:
    """By track, what the model says of every window."""
    found: dict[str, list[tuple[TokenSong, Told]]] = {track: [] for track in predicted(model.mode)}
    for place in places:
        told = model.told(on(place.codes(tokenizer, protocol.window), model.beginning.device))
        for track, own in told.items():
            found[track].append((place.song, own))
    return found
