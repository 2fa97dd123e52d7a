"""Hears what the console's page sends to the loudspeakers, beside what its microphone gives: it taps the page's graph.

ear = Ear(page)                    # before the page is opened
played = try_it(page, ear, url, "passthrough", seconds=10.0, buffer_ms=80)
assert played.dropouts == 0 and abs(played.lags - played.shown).max() < 0.05
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backline.models.stream import Audio
from tests.support.browser import Browser

LOOK_SECONDS = 0.25
STEADY = 3  # looks to either side that must show the same latency: a window in which it has grown holds two
QUANTUM = 128  # samples that the browser's audio thread makes at once
BATCH_SECONDS = 0.05  # that it may make between two looks of the page
SCRIPT = """
(() => {
  const connect = AudioNode.prototype.connect, ears = {};
  AudioNode.prototype.connect = function (to, ...rest) {
    const listen = (name) => connect.call(this, (ears[name] = new AnalyserNode(this.context, {fftSize: 32768})));
    if (this instanceof MediaStreamAudioSourceNode || this instanceof AudioBufferSourceNode) listen("input");
    if (to instanceof AudioDestinationNode) listen("output");
    return connect.call(this, to, ...rest);
  };
  window.hear = () => {
    const heard = [ears.input, ears.output].map((ear) => {
      const samples = new Float32Array(ear.fftSize);
      ear.getFloatTimeDomainData(samples);
      return samples;
    });
    const letters = (samples) => Array.from(new Uint8Array(samples.buffer), (byte) => String.fromCharCode(byte));
    const text = (samples) => btoa(letters(samples).join(""));
    return {rate: ears.output.context.sampleRate, samples: heard.map(text)};
  };
})();
"""


@dataclass(frozen=True)
class Heard:
    """Two windows of the newest samples, which end at nearly the same time: what went in, and what came out."""

    input: Audio  # [sample]
    output: Audio
    rate: float

    def lag(self) -> tuple[int, float]:
        """By how many samples the output is behind, and how alike they are then, 0 to 1."""
        size = len(self.input)
        spectrum = np.fft.rfft(self.output, 2 * size) * np.conj(np.fft.rfft(self.input, 2 * size))
        lag = int(np.argmax(np.fft.irfft(spectrum)[: size - QUANTUM]))
        before, after = self.input[: size - lag].astype(float), self.output[lag:].astype(float)
        return lag, float(before @ after / max(1e-12, np.linalg.norm(before) * np.linalg.norm(after)))


@dataclass(frozen=True)
class Played:
    """What came of playing: all in seconds, but for counts."""

    shown: NDArray[np.float64]  # the latency that the page shows, without the sound card's, a look
    lags: NDArray[np.float64]  # found by cross-correlation
    likeness: NDArray[np.float64]
    dropouts: int
    missing: str
    late: str
    seconds: float


class Ear:
    """Of one browser; made before it opens the page."""

    def __init__(self, page: Browser) -> None:
        self._page = page
        page.before_each_page(SCRIPT)

    def hear(self) -> Heard:
        """The newest two thirds of a second."""
        told = self._page.run("hear()")
        entering, leaving = (np.frombuffer(base64.b64decode(text), "<f4") for text in told["samples"])
        return Heard(entering, leaving, told["rate"])


def figures(page: Browser) -> dict[str, str]:
    """What "Try it" says of the session."""
    pair = "(pair) => [...pair.children].map((each) => each.textContent)"
    return dict(page.run(f"[...document.querySelectorAll('#try-figures > div')].map({pair})"))


def try_it(page: Browser, ear: Ear, url: str, pack: str, *, seconds: float, buffer_ms: int) -> Played:
    """Plays through "Try it" with nothing but the keyboard once the pack is chosen, and leaves it playing.

    Raises:
        AssertionError: it does not come to play.
    """
    page.open(f"{url}/#try")
    page.until("document.querySelector('#try-pack').options.length")
    page.run(f"document.querySelector('#try-pack').value = {json.dumps(pack)}")
    page.run(f"document.querySelector('#buffer').value = {buffer_ms}")
    page.tab_to("#go")
    page.press("Enter")
    page.until(
        "document.querySelector('#try-state').textContent.startsWith('Playing') || "
        "!document.querySelector('#problem').hidden"
    )
    assert not page.text("#problem p"), page.text("#problem p")
    looks: list[tuple[float, float, float]] = []
    begun = time.monotonic()
    time.sleep(2.0)  # so that both windows are full of what was played
    while time.monotonic() - begun < seconds:
        heard, said = ear.hear(), figures(page)
        lag, alike = heard.lag()
        looks.append((float(said["Without sound card"].removesuffix(" ms")) / 1_000, lag / heard.rate, alike))
        time.sleep(LOOK_SECONDS)
    around = [{shown for shown, _, _ in looks[max(0, at - STEADY) : at + STEADY + 1]} for at in range(len(looks))]
    shown, lags, likeness = zip(
        *(look for look, all_shown in zip(looks, around, strict=True) if len(all_shown) == 1), strict=True
    )
    return Played(
        shown=np.array(shown),
        lags=np.array(lags),
        likeness=np.array(likeness),
        dropouts=int(said["Dropouts"]),
        missing=said["Silent instead"],
        late=said["Late at the server"],
        seconds=time.monotonic() - begun,
    )
