"""Cheats of who sits beside a command: the host's other users, programs that it starts, a service that signs for it."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from deploy.attack.cheat import CUSTOMERS, FUNDER, Cheat, Outcome, Stopwatch
from deploy.attack.log_copy import LogCopy
from deploy.attack.moody_node import Reply, moody
from schemas.errors import InvalidInput
from settlement.chain.remote_signer import RemoteSigner
from settlement.chain.signer import Signer

PLANTED = "0x" + "5e" * 32
_STARTS_A_PROGRAM = """
import subprocess, sys
from deploy.config import keep_secrets
keep_secrets()
subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"])
"""


def neighbour_cheats(copy: LogCopy) -> Iterator[Cheat]:
    """Cheats on the host of a worker."""
    name = "another user of the host reads keys, readings, checkpoints"
    yield Cheat(name, "stranger", CUSTOMERS, partial(_read_by_others, copy))
    yield Cheat("a program that a command starts looks for its keys", "stranger", FUNDER, partial(_inherited, copy))


def signer_cheats() -> Iterator[Cheat]:
    """Cheats of a service that signs, and of who is between it and a command."""
    yield Cheat("a signing service that signs with another key", "stranger", FUNDER, _signed)
    yield Cheat("a signing service behind a network that changes what it is shown", "stranger", FUNDER, _in_the_open)


def _read_by_others(copy: LogCopy) -> Outcome:
    """Looks at what real commands have written: a worker's folder, and a new log's with its operator's key."""
    watch, made = Stopwatch(), copy.folder.with_name("made")
    password = copy.folder.with_name("password")
    password.write_text("a password\n")
    password.chmod(0o600)
    words = ["init", "--data-dir", str(made), "--password-file", str(password)]
    done = subprocess.run(
        copy.command("-m", "deploy", *words, TALLYROOT_TOPIC="made"),
        cwd=copy.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return watch.outcome("", f"host: {done.stderr.strip()}")
    paths = [path for folder in (made, copy.folder) for path in (folder, *folder.rglob("*"))]
    for path in paths:
        if path.stat().st_mode & 0o077:
            return watch.outcome("", f"host: everybody may read {path.name}")
    return watch.outcome("file modes", f"host: permission denied, for each of {len(paths)} files and folders")


def _inherited(copy: LogCopy) -> Outcome:
    watch = Stopwatch()
    keys = {"TALLYROOT_POSTER_KEY": PLANTED, "TALLYROOT_OPERATOR_PASSWORD": PLANTED}
    done = subprocess.run(
        copy.command("-c", _STARTS_A_PROGRAM, **keys), cwd=copy.folder, capture_output=True, text=True, check=False
    )
    is_kept = "PYTHONPATH" in done.stdout and PLANTED not in done.stdout
    return watch.outcome("environment" if is_kept else "", f"environment: {'no key' if is_kept else 'keys'} in it")


def _signed() -> Outcome:
    """The thief's signature would move the thief's account, with what the command was about to do."""
    watch, thief = Stopwatch(), Signer.from_seed("attack", "thief")

    def mood(asked: Mapping[str, Any], _: object) -> Reply:
        signed = thief.sign_digest(bytes.fromhex(asked["digest"].removeprefix("0x")), {})
        return Reply(msgspec.json.encode({"r": hex(signed.r), "s": hex(signed.s)}))

    with moody("", mood) as url:
        signer = RemoteSigner(url, Signer.from_seed("attack", "victim").address)
        try:
            signer.sign_digest(bytes(32), {})
        except InvalidInput as error:
            return watch.outcome("signer", f"signer: {str(error).partition(': ')[0].replace(url, 'it')}")
    return watch.outcome("", "signer: taken")


def _in_the_open() -> Outcome:
    watch = Stopwatch()
    try:
        RemoteSigner("http://signer.example/sign", Signer.from_seed("attack", "victim").address)
    except InvalidInput as error:
        return watch.outcome("signer", f"signer: {error}")
    return watch.outcome("", "signer: asked")
