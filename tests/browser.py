"""A headless Chromium that tests look at pages with: one process, driven by the DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-quic --disable-features=NetworkTimeServiceQuerying "
    "--hide-scrollbars --remote-debugging-pipe"
)
_NOWHERE = "--host-resolver-rules=MAP * ~NOTFOUND"  # a page that asks for something gets no answer
_PATIENCE = 60.0  # seconds for one answer on a busy machine


@dataclass
class Browser:
    """The two ends of the pipe, and what the open page told since it was opened."""

    into: int
    out: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _sent: int = 0
    _rest: bytes = b""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before it are kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._sent:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self.events.append(told)

    def open(self, path: Path, *, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Open a file as a window of this width would show it."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="", features=scheme)
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def ask(self, script: str) -> Any:
        """The value of an expression in the page; its security policy does not concern the DevTools."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """What the console said since the page was opened; violations of its security policy are among it."""
        kinds = {
            "Runtime.consoleAPICalled": lambda told: str(told["args"]),
            "Runtime.exceptionThrown": lambda told: str(told["exceptionDetails"]),
            "Log.entryAdded": lambda told: told["entry"]["text"],
        }
        return [kinds[event["method"]](event["params"]) for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """What was asked for since the page was opened, without the page itself and without data in the page."""
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent[1:] if not url.startswith("data:")]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as a PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.out], [], [], max(0.0, until - time.monotonic()))
            assert ready, "Chromium does not answer"
            read = os.read(self.out, 1 << 20)
            assert read, "Chromium ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own in a folder, and end it."""
    assert CHROMIUM is not None
    theirs_in, into = map(_high, os.pipe())
    out, theirs_out = map(_high, os.pipe())
    command = [CHROMIUM, *_FLAGS.split(), _NOWHERE, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    log = (os.POSIX_SPAWN_OPEN, 2, str(folder / "chromium.log"), os.O_WRONLY | os.O_CREAT, 0o600)
    ends = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4), log]
    process = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=ends)
    os.close(theirs_in)
    os.close(theirs_out)
    opened = Browser(into, out)
    try:
        pages = [t for t in opened.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        target = pages[0]["targetId"] if pages else opened.call("Target.createTarget", url="about:blank")["targetId"]
        opened.session = opened.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            opened.call(f"{domain}.enable")
        yield opened
    finally:
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
        os.close(into)
        os.close(out)


def _high(descriptor: int) -> int:
    """The same file under a number that the two of the protocol, 3 and 4, cannot overwrite."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved
