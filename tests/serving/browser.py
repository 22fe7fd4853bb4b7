"""Chromium without a window, driven over a pipe by the DevTools protocol: what is installed is enough."""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import uvicorn

from tsforecast.bundle.bundle import Bundle
from tsforecast.serving.asgi import create_app

SECONDS = 60.0


class Browser:
    """One page of a browser that is started with it and ends with it."""

    def __init__(self, chromium: str, home: Path) -> None:
        (self._reads, into), (out, self._writes) = os.pipe(), os.pipe()
        self.home, self._numbers, self._rest = home, itertools.count(1), b""
        self.events: list[dict[str, Any]] = []
        given = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        shell = f'exec "$0" "$@" 3<&{out} 4>&{into}'
        command = ["bash", "-c", shell, chromium, *given, f"--user-data-dir={home / 'profile'}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=(into, out), stdout=quiet, stderr=quiet)
        os.close(into)
        os.close(out)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(home), eventsEnabled=True)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._reads)
        os.close(self._writes)

    def call(self, method: str, **parameters: Any) -> Any:
        """One command and its result; events that come meanwhile are kept."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                read = os.read(self._reads, 65536)
                assert read, "the browser ended"
                self._rest += read
            line, _, self._rest = self._rest.partition(b"\0")
            found = json.loads(line)
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            self.events.append(found)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"), self.complaints())
            time.sleep(0.02)
        return value

    def open(self, address: str, width: int = 1400, scheme: str = "light") -> None:
        """A page in a window so wide, where the person has said light or dark."""
        self.resize(width, scheme)
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def resize(self, width: int, scheme: str = "light") -> None:
        """A window so wide, light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, pressed and let go."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    def drop(self, file: Path) -> None:
        """A file of the disk, dragged onto the page."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(image))

    def complaints(self) -> list[str]:
        """What the browser said is wrong: errors, of scripts too, and whatever the policy has blocked."""
        self.run("0")
        kinds = {"Runtime.exceptionThrown": "exceptionDetails", "Log.entryAdded": "entry"}
        return [str(each["params"][kinds[each["method"]]]) for each in self.events if each["method"] in kinds]


class Seen:
    """A browser, and the addresses of servers that it can look at."""

    def __init__(self, chromium: str, home: Path) -> None:
        self.browser, self.home = Browser(chromium, home), home
        self.servers: list[tuple[uvicorn.Server, threading.Thread]] = []
        self.apps: dict[str, Any] = {}

    def serve(self, bundle: Bundle | None) -> str:
        """The address of a server of the bundle, over a socket; None: of what the environment says."""
        app = create_app()
        app.state.server.start(bundle and str(bundle.path))
        port = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, args=([port],))
        thread.start()
        self.servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        address = f"http://127.0.0.1:{port.getsockname()[1]}"
        self.apps[address] = app
        return address

    def open(self, address: str, width: int = 1400) -> Browser:
        """The page, once it knows the model and the example."""
        self.browser.open(f"{address}/ui", width)
        self.browser.wait("typeof example === 'string'")
        return self.browser

    def close(self) -> None:
        self.browser.close()
        for server, thread in self.servers:
            server.should_exit = True
            thread.join()


def chart(browser: Browser, name: str = "chart") -> list[list[float | None]]:
    """The data of a chart, as it is drawn."""
    found = browser.run(f"document.getElementById('{name}').uplot.data.map((list) => [...list])")
    assert isinstance(found, list)
    return found


def text(browser: Browser, name: str) -> str:
    """What a person reads of an element."""
    return str(browser.run(f"document.getElementById('{name}').innerText"))


def table(browser: Browser, name: str) -> pd.DataFrame:
    """A table as it is shown, cells as text."""
    rows = f"[...document.getElementById('{name}').rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    head, *cells = browser.run(rows)
    return pd.DataFrame(cells, columns=head)
