"""A real MQTT broker for a test: mosquitto, on a free port of this machine, which may be killed and started again."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.stack.processes import free_ports

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")

needs_mosquitto = pytest.mark.skipif(
    PROGRAM is None, reason="no mosquitto is installed here: apt-get install mosquitto"
)


class Mosquitto:
    """The broker of one folder. It keeps sessions over an end in order, and over a kill as far as it had saved them."""

    def __init__(self, folder: Path, *lines: str, scheme: str = "") -> None:
        (self.port,) = free_ports(1)
        self._config = folder / "mosquitto.conf"
        self._log = (folder / "mosquitto.log").open("ab")
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n{scheme}"
            f"user root\npersistence true\npersistence_location {folder}/\nautosave_on_changes true\n"
            "autosave_interval 1\nmax_queued_messages 0\nset_tcp_nodelay true\n"
            + "".join(f"{line}\n" for line in lines or ("allow_anonymous true",))
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it, and returns once it answers."""
        self._process = subprocess.Popen([PROGRAM or "", "-c", str(self._config)], stdout=self._log, stderr=self._log)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._config.with_name("mosquitto.log").read_text()
                time.sleep(0.01)
        raise AssertionError("mosquitto doesn't answer")

    def stop(self, *, kill: bool = False) -> None:
        """Ends it, in order or not."""
        assert self._process is not None
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait()

    def close(self) -> None:
        """Ends it for good."""
        self.stop(kill=True)
        self._log.close()


@contextmanager
def mosquitto(folder: Path, *lines: str, scheme: str = "") -> Iterator[Mosquitto]:
    """A broker with its files in a folder; `lines` say who may come in, `scheme` belongs to the listener."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(folder, *lines, scheme=scheme)
    try:
        yield broker
    finally:
        broker.close()
