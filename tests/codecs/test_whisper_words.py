"""Whisper's words: one token after another equals all at once, times go forward, and only words are told."""

import itertools
from pathlib import Path

import pytest
import soundfile
import soxr
import torch

from backline.codecs.whisper import Past
from backline.codecs.whisper_files import WhisperMissing, whisper_files
from backline.codecs.whisper_words import WhisperWords
from tests.support.whisper_model import POSITIONS, STAMPS, TEXT, VOCABULARY, tokenizer_bytes, write_whisper

TIMES = VOCABULARY - STAMPS


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WhisperWords:
    return WhisperWords(whisper_files(write_whisper(tmp_path_factory.mktemp("whisper"))))


def test_a_token_at_a_time_is_all_at_once(words: WhisperWords) -> None:
    keys = words.decoder.keys(torch.randn(1, POSITIONS, 16))
    tokens = torch.randint(0, VOCABULARY, (1, 9))
    past: list[Past] = []
    for count in range(1, 10):
        step = words.decoder(tokens[:, count - 1 : count], keys, past)
        assert torch.allclose(step, words.decoder(tokens[:, :count], keys), atol=1e-4)


def test_tokens_keep_to_the_rules_whatever_the_network_says(words: WhisperWords) -> None:
    for seed in range(30):
        draw = torch.Generator().manual_seed(seed)
        tokens: list[int] = []
        for _ in range(40):
            allowed = words._allowed(5 * torch.randn(VOCABULARY, generator=draw), tokens)
            tokens.append(int(allowed.argmax()))
            if tokens[-1] == TEXT:  # the end
                break
        times = [token for token in tokens if token >= TIMES]
        assert tokens[0] >= TIMES
        assert times == sorted(times)
        assert not any(TEXT < token < TIMES for token in tokens)  # commands are no words
        for run, group in itertools.groupby(tokens[1:], lambda token: token >= TIMES):
            assert not run or len(list(group)) <= 2


def test_phrases_stand_between_their_times(words: WhisperWords) -> None:
    happy, birthday = 256, 257
    tokens = [TIMES, happy, birthday, TIMES + 10, TIMES + 12, happy, TIMES + 20]
    assert words._phrases(tokens, 0.5) == ([(0.0, 0.2, "happy birthday"), (0.24, 0.4, "happy")], 0.5)
    cut = [TIMES, happy, TIMES + 10, TIMES + 10, birthday]  # heard again from where the last whole one ends
    assert words._phrases(cut, 0.5) == ([(0.0, 0.2, "happy")], 0.2)
    assert words._phrases([TIMES, happy], 0.5) == ([(0.0, 0.5, "happy")], 0.5)
    assert words._phrases([], 0.5) == ([], 0.5)


def test_where_no_voice_is_nobody_listens(words: WhisperWords) -> None:
    assert words.hear(torch.randn(40_000), []) == []
    spans = [(0.5, 0.6), (1.2, 2.5)]
    found = words.hear(0.1 * torch.randn(40_000), spans)
    assert all(0.5 <= begin <= end <= 2.5 + 1e-6 for begin, end, _ in found)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (b"[]", "Expected `object`"),
        (b'{"added_tokens": [], "model": {"vocab": {"a": 0}}}', r"no '<\|endoftext\|>'"),
        (tokenizer_bytes().replace(b"<|nocaptions|>", b"<|something|>"), "not those of a Whisper for English"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path: Path, tokenizer: bytes, message: str) -> None:
    write_whisper(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer)
    files = whisper_files(tmp_path)
    with pytest.raises(WhisperMissing, match=message):
        WhisperWords(files)


@pytest.mark.slow
@pytest.mark.weights
def test_real_weights_hear_real_words(recordings: Path, whisper: Path) -> None:
    audio, rate = soundfile.read(recordings / "singing_woman.flac", dtype="float32")
    heard = WhisperWords(whisper_files(whisper)).hear(
        torch.from_numpy(soxr.resample(audio, rate, 16_000)), [(0.0, 12.0)]
    )
    assert "happy birthday to you" in " ".join(text for _, _, text in heard).lower()
