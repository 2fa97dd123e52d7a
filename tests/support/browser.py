"""A headless Chromium that a test drives by the DevTools protocol, with a file for its microphone.

with Browser(microphone=Path("voice.wav")) as page:
    page.open("http://127.0.0.1:8090/")
    page.press("Tab")
    assert page.run("document.title") == "Sessions, Backline"
    assert page.errors == []
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
WHY_NOT = "no Chromium is installed: apt install chromium"
PATIENCE_SECONDS = 30.0
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40, "ArrowUp": 38, "ArrowRight": 39, "ArrowLeft": 37}


class Browser:
    """One page."""

    def __init__(self, microphone: Path | None = None, size: tuple[int, int] = (1200, 900)) -> None:
        assert PROGRAM is not None, WHY_NOT
        self.errors: list[str] = []  # of the console, of scripts and of the network
        self.requests: list[str] = []  # addresses of all that it has asked for
        self._folder = tempfile.TemporaryDirectory(prefix="backline-browser-", ignore_cleanup_errors=True)
        microphones = [] if microphone is None else [f"--use-file-for-fake-audio-capture={microphone}"]
        self._process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
                "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync",
                "--disable-component-update", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                *microphones, f"--user-data-dir={self._folder.name}", "--remote-debugging-port=0", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._number = 0
        self._stack = ExitStack()
        self._socket = self._connected()
        (target,) = [each for each in self._call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(*size)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._folder.cleanup()

    # ---- what a user does ----------------------------------------------------------------------------

    def open(self, address: str) -> None:
        """Goes to a page, and waits until it is there."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def press(self, key: str) -> None:
        """Presses a key, and lets go of it."""
        code = KEYS[key]
        text = {"Enter": "\r", " ": " "}.get(key)
        told = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **told, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def tab_to(self, selector: str, most: int = 60) -> None:
        """Presses Tab until an element has the focus."""
        for _ in range(most):
            if self.run(f"document.activeElement?.matches({json.dumps(selector)}) ?? false"):
                return
            self.press("Tab")
        raise AssertionError(f"{selector} is not reached by the keyboard")

    def choose_file(self, selector: str, path: Path) -> None:
        """Gives a file to an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    # ---- what a test sees ----------------------------------------------------------------------------

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def before_each_page(self, script: str) -> None:
        """Runs `script` in every page before its own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def until(self, script: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """The value of an expression, once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} has not come true; errors: {self.errors}"
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def picture(self, path: Path, whole: bool = True) -> None:
        """A screenshot, as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._all(whole))[
            "data"
        ]
        path.write_bytes(base64.b64decode(data))

    def _all(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6_000), "scale": 1}}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A method of the DevTools protocol, of the page."""
        return self._call(method, self._session, **parameters)

    # ---- parts ---------------------------------------------------------------------------------------

    def _connected(self) -> ClientConnection:
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "DevTools listening on " in line:
                return self._stack.enter_context(connect(line.split()[-1], max_size=None, compression=None))
        raise AssertionError(f"Chromium does not start: {''.join(said)}")

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(
                    str(told["exceptionDetails"].get("exception", told["exceptionDetails"]).get("description"))
                )
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.errors.append(str([each.get("value", each.get("description")) for each in told["args"]]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(told["url"])
