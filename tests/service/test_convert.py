"""Numbers survive the wire: fractions come back from doubles, and audio is not copied on its way in."""

from fractions import Fraction

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.engine.errors import BadInput
from backline.engine.events import OutputBlock
from backline.models.passthrough import PassthroughConfig, make_spec
from backline.models.stream import ChannelLayout
from backline.service import convert
from backline.service.status import status_of
from backline_client.wire import open_message
from tests.support.wire import noise, opening


@given(st.fractions(min_value=Fraction(1, 10_000), max_value=4, max_denominator=100_000))
def test_a_chunk_is_the_fraction_that_was_meant(chunk: Fraction) -> None:
    config = convert.session_config(opening(chunk_seconds=float(chunk)), make_spec(PassthroughConfig()), offline=False)
    assert config.chunk_seconds == chunk


def test_visibility_follows_the_chunk_unless_it_is_given() -> None:
    spec = make_spec(PassthroughConfig())
    assert convert.session_config(opening(chunk_seconds=0.5), spec, offline=False).visibility_seconds == 0.5
    assert convert.session_config(opening(visibility_seconds=0), spec, offline=False).visibility_seconds == 0.0


@pytest.mark.parametrize("layout", ChannelLayout)
def test_every_layout_crosses_the_wire_and_another_one_is_refused(layout: ChannelLayout) -> None:
    spec = make_spec(PassthroughConfig())
    sent = open_message("passthrough", 48_000, 2, 512, True, {"channel_layout": layout.value})
    assert convert.session_config(sent, spec, offline=True).channel_layout is layout
    assert convert.session_config(opening(), spec, offline=True).channel_layout is None
    with pytest.raises(BadInput, match=r"channel layout 77 is none of .*CHANNEL_LAYOUT_5_1"):
        convert.session_config(opening(channel_layout=77), spec, offline=True)


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_pcm_survives_both_ways_without_a_copy_on_the_way_in(channels: int) -> None:
    audio = noise(channels, 100)
    pcm = convert.audio_block(OutputBlock(0, 0, 0, audio, 0)).pcm
    assert pcm == audio.T.astype("<f4").tobytes()
    read = convert.read_pcm(pcm, channels)
    assert np.array_equal(read, audio)
    assert np.shares_memory(read, np.frombuffer(pcm, np.uint8))


@given(st.integers(1, 1_000), st.integers(1, 64))
def test_pcm_must_be_whole_frames(length: int, channels: int) -> None:
    if length % (4 * channels):
        with pytest.raises(BadInput, match=f"pcm holds {length} bytes"):
            convert.read_pcm(bytes(length), channels)
    else:
        assert convert.read_pcm(bytes(length), channels).shape == (channels, length // (4 * channels))


def test_an_error_that_nobody_foresaw_is_internal() -> None:
    status, message = status_of(ZeroDivisionError("division by zero"))
    assert status is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError: division by zero" in message
