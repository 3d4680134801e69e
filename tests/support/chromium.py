"""A headless Chromium, driven over its DevTools protocol: for tests of what a person sees."""

import asyncio
import base64
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_S = 60

Plain = dict[str, Any]


def find_chromium() -> str | None:
    """The path of an installed Chromium."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one page. `events` are what the page told since `open`."""

    def __init__(self, program: str, profile: Path) -> None:
        words = [program, "--headless", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
                 "--remote-debugging-port=0", f"--user-data-dir={profile}"]  # fmt: skip
        if os.geteuid() == 0:
            words.append("--no-sandbox")  # as root it refuses to run with one
        self._process = subprocess.Popen(
            [*words, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._loop = asyncio.new_event_loop()
        self._count = 0
        self.events: list[Plain] = []
        self._loop.run_until_complete(self._connect())
        for domain in ("Page", "Runtime", "Log", "Network", "Security"):
            self.command(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Shows a file, at a width in pixels, until its check is done."""
        self.events.clear()
        self.show(width=width, dark=dark)
        self.command("Page.navigate", url=path.as_uri())
        self.wait_for("document.readyState === 'complete' && document.getElementById('verdict')?.dataset.state")

    def show(self, *, width: int = 1280, dark: bool = False) -> None:
        """Another width, another scheme of colours."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def ask(self, code: str) -> Any:
        """The value of an expression in the page. Raises AssertionError where it throws."""
        found = self.command("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, code: str) -> Any:
        """The value of an expression once it is true."""
        look = f"const look = () => {{ const it = ({code}); it ? done(it) : setTimeout(look, 20); }}; look();"
        return self.ask(f"new Promise((done) => {{ {look} }})")

    def press(self, key: str, shift: bool = False) -> None:
        """A key, as from a keyboard: Tab, Enter, ArrowDown or a character."""
        known = {"Tab": 9, "Enter": 13, "ArrowDown": 40, "Home": 36}
        event: Plain = {"key": key, "code": key, "windowsVirtualKeyCode": known.get(key, 0), "modifiers": 8 * shift}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.command("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.command("Page.printToPDF")["data"])

    def told(self, *methods: str) -> list[Plain]:
        """What the page told of these kinds since it was opened."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def command(self, method: str, **params: Any) -> Any:
        """One command of the protocol and its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._command(method, params), TIMEOUT_S))

    def close(self) -> None:
        """Ends the browser."""
        self._loop.run_until_complete(self._end())
        self._loop.close()
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        if self._process.stderr is not None:
            self._process.stderr.close()

    async def _connect(self) -> None:
        assert self._process.stderr is not None
        found = next((m for line in self._process.stderr if (m := re.search(r"ws://([\d.]+:\d+)/", line))), None)
        assert found is not None, "Chromium ended before it listened"
        self._session = aiohttp.ClientSession(trust_env=False)
        async with self._session.get(f"http://{found[1]}/json") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def _end(self) -> None:
        await self._socket.close()
        await self._session.close()

    async def _command(self, method: str, params: Plain) -> Any:
        self._count += 1
        number = self._count
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            if "method" in message:
                self.events.append(message)
