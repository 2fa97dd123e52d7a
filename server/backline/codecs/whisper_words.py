"""Whisper's words: tokens chosen one after another, with the times that the network itself says, and their text.

The rules for times are those of its authors (openai/whisper, decoding.py): every phrase stands between two times, and
times never go back. Whatever is likelier said by nobody, or says itself over and over, is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from backline.codecs.whisper import SAMPLE_RATE, Past, WhisperDecoder, WhisperEncoder
from backline.codecs.whisper_files import WhisperFiles, WhisperMissing

STAMP_SECONDS = 0.02  # between two tokens of time
FIRST_WITHIN = 50  # of which the first may be: a second
UNSAID, UNLIKELY = 0.6, -1.0  # that nobody speaks; mean nats of a token, below which it is believed
REPEATED = 2.4  # times that words can be packed, from where on they are the same over and over

Phrase = tuple[float, float, str]  # begin and end, seconds; what is said


class _AddedToken(Struct):
    id: int
    content: str


class _Model(Struct):
    vocab: dict[str, int]


class _Tokenizer(Struct):
    added_tokens: list[_AddedToken]
    model: _Model


class _Config(Struct):
    suppress_ids: list[int] = []


class WhisperWords:
    """Hears English in a sound. Any thread, without state."""

    def __init__(self, files: WhisperFiles) -> None:
        """Raises WhisperMissing: the files are not those of a Whisper for English."""
        weights = files.weights()
        try:
            self.encoder: WhisperEncoder = weights.encoder()
            self.decoder: WhisperDecoder = weights.decoder()
            tokenizer = msgspec.json.decode(files.tokenizer, type=_Tokenizer)
            config = msgspec.json.decode(files.config, type=_Config)
        except (ValueError, RecursionError) as error:
            raise WhisperMissing(f"{files.place}: {error}") from error
        commands = {token.content: token.id for token in tokenizer.added_tokens}
        try:
            self._end, self._start = commands["<|endoftext|>"], commands["<|startoftranscript|>"]
            self._unsaid = commands.get("<|nocaptions|>", commands.get("<|nospeech|>", -1))
            self._times = commands["<|notimestamps|>"] + 1  # the first token of time
        except KeyError as error:
            raise WhisperMissing(f"{files.place}: its tokenizer.json has no {error}: it is no Whisper's") from error
        self._stamps = self.decoder.embedding.shape[0] - self._times
        text = set(tokenizer.model.vocab.values())
        if not (self._end == max(text) + 1 or self._end in text) or self._stamps < 2 or self._unsaid < 0:
            raise WhisperMissing(f"{files.place}: its tokens are not those of a Whisper for English, as tiny.en")
        self._texts = {number: _bytes_of(word) for word, number in tokenizer.model.vocab.items()}
        never = {*range(self._end + 1, self._times), *(n for n in config.suppress_ids if 0 <= n < self._times)}
        self._never = torch.tensor(sorted(never - {self._end}), dtype=torch.int64)
        blank = [number for number, said in self._texts.items() if said == b" "]
        self._not_first = torch.tensor([self._end, *blank], dtype=torch.int64)

    @torch.no_grad()
    def hear(self, audio: Tensor, spans: Sequence[tuple[float, float]]) -> list[Phrase]:
        """The phrases in a sound [sample] at 16 kHz.

        Args:
            spans: (begin, end) in seconds, in order, of what may be a voice; the rest is not listened to.
        """
        window = self.encoder.window / SAMPLE_RATE
        found: list[Phrase] = []
        at = 0.0
        while (due := next((span for span in spans if span[1] > at), None)) is not None:
            at = max(at, due[0])
            first = round(at * SAMPLE_RATE)
            heard = audio[first : first + self.encoder.window]
            if not len(heard):
                break
            tokens, believed = self._tokens(heard)
            phrases, told = self._phrases(tokens, min(window, len(heard) / SAMPLE_RATE))
            if believed and not _repeats(" ".join(text for _, _, text in phrases)):
                found += [(at + begin, at + end, text) for begin, end, text in phrases]
            at += told
        return found

    def _tokens(self, audio: Tensor) -> tuple[list[int], bool]:
        """What follows the start, without the end; and whether it is likely that anybody says it."""
        keys = self.decoder.keys(self.encoder(_whole(audio, self.encoder.window)[None]))
        tokens: list[int] = []
        past: list[Past] = []
        total, unsaid = 0.0, 0.0
        while len(tokens) < self.decoder.longest // 2:  # as its authors do: more is a loop
            scores = self.decoder(torch.tensor([[tokens[-1] if tokens else self._start]]), keys, past)[0]
            if not tokens:
                unsaid = float(scores.softmax(0)[self._unsaid])
            likely = self._allowed(scores, tokens).log_softmax(0)
            best = int(likely.argmax())
            total += float(likely[best])
            if best == self._end:
                break
            tokens.append(best)
        return tokens, unsaid < UNSAID or total / (len(tokens) + 1) > UNLIKELY

    def _allowed(self, scores: Tensor, tokens: Sequence[int]) -> Tensor:
        """Scores [token] with those out of the question at -inf."""
        scores = scores.clone()
        scores[self._never] = -torch.inf
        times = [token for token in tokens if token >= self._times]
        if not tokens:
            scores[self._not_first] = -torch.inf
            scores[: self._times] = -torch.inf
            scores[self._times + FIRST_WITHIN + 1 :] = -torch.inf
            return scores
        if tokens[-1] >= self._times:
            if len(tokens) < 2 or tokens[-2] >= self._times:
                scores[self._times :] = -torch.inf  # a phrase has begun
            else:
                scores[: self._end] = -torch.inf  # one has ended
        if times:
            begun = tokens[-1] < self._times  # a phrase does not end when it begins
            scores[self._times : times[-1] + begun] = -torch.inf
        likely = scores.log_softmax(0)
        if likely[self._times :].logsumexp(0) > likely[: self._times].max():
            scores[: self._times] = -torch.inf
        return scores

    def _phrases(self, tokens: Sequence[int], heard: float) -> tuple[list[Phrase], float]:
        """Phrases within a window of so many seconds, and how much of it they tell: all, or up to a cut last one."""
        phrases: list[Phrase] = []
        begin, words = 0.0, b""
        ended = 0.0
        for token in tokens:
            if token < self._times:
                words += self._texts.get(token, b"")
                continue
            second = (token - self._times) * STAMP_SECONDS
            if words.strip() and begin < heard:
                phrases.append((begin, min(heard, second), _text(words)))
                ended = second
            begin, words = second, b""
        if words.strip() and begin < heard and not phrases:  # nothing says where it ends: the window does
            phrases.append((begin, heard, _text(words)))
            return phrases, heard
        cut = bool(words.strip()) or (len(tokens) > 1 and tokens[-1] >= self._times and tokens[-2] >= self._times)
        return phrases, min(heard, ended) if cut and ended > 0 else heard


def _text(words: bytes) -> str:
    """One line."""
    return " ".join(words.decode("utf-8", "replace").split())


def _repeats(text: str) -> bool:
    data = text.encode()
    return len(data) / max(1, len(zlib.compress(data))) > REPEATED


def _whole(audio: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.pad(audio, (0, samples - len(audio)))


def _bytes_of(word: str) -> bytes:
    """What a token of GPT-2's byte-level vocabulary stands for."""
    return bytes(_BYTES[letter] for letter in word if letter in _BYTES)


def _letters() -> dict[str, int]:
    """The byte that each letter of such a vocabulary stands for: itself, or the n-th that cannot be printed."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _letters()
