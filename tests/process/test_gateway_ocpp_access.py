"""Who may connect: passwords, TLS and certificates of chargers; and what the file of passwords must be."""

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tallyroot_gateway import InvalidInput
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.ocpp import CentralSystem
from tallyroot_gateway.ocpp.charge_point import ChargePoint
from tallyroot_gateway.ocpp.passwords import hashed
from tests.support.ocpp_chargers import central_system, ocpp_config

TWO = {"CP-1": {"machine": "charger-1"}, "CP-2": {"machine": "charger-2"}}


async def admitted(url: str, id: str, **options: Any) -> bool:
    """Whether a charger gets in."""
    try:
        async with ChargePoint(url, id, **options) as point:
            return bool(await point.call("Heartbeat", {}))
    except InvalidInput:
        return False


def test_passwords(tmp_path: Path) -> None:
    """Profile 1, from a file of mode 600."""
    path = tmp_path / "passwords"
    path.write_text(f"# chargers\nCP-1:{hashed('one')}\nCP-2:{hashed('two')}\n")
    path.chmod(0o644)
    config = ocpp_config(tmp_path, TWO, security_profile=1, passwords=str(path))

    async def scenario() -> None:
        async with central_system(config) as (central, url):
            assert await admitted(url, "CP-1", password="one")
            assert await admitted(url, "CP-1", password="one")
            assert await admitted(url, "CP-2", password="two")
            for id, password in (("CP-1", "two"), ("CP-1", None), ("CP-1", ""), ("CP-3", "one"), ("CP-1", "one\0")):
                assert not await admitted(url, id, password=password)
            crowd = await asyncio.gather(*(admitted(url, "CP-1", password=f"guess {n}") for n in range(40)))
            assert not any(crowd)
            assert await admitted(url, "CP-2", password="two")
            refused = central.counts.refused.labels("unauthorized")._value.get()
            assert refused == 45

    with pytest.raises(InvalidInput, match="others may read"):
        asyncio.run(scenario())
    path.chmod(0o600)
    asyncio.run(scenario())


def test_a_charger_without_a_password_is_a_mistake(tmp_path: Path) -> None:
    chargers = {"CP-1": {"machine": "charger-1"}}
    for options, said in (
        (chargers, "has no password"),
        ({"CP-1": {"machine": "m", "password": "plain"}}, "is no hash"),
    ):
        config = ocpp_config(tmp_path, options, security_profile=1)
        intake = Intake(config)
        with pytest.raises(InvalidInput, match=said):
            CentralSystem(config, intake)


def test_a_password_is_hashed_by_a_command() -> None:
    command = [sys.executable, "-m", "tallyroot_gateway.ocpp"]
    done = subprocess.run(command, input="s3cret\n", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("scrypt$8192$")


@contextlib.contextmanager
def certificates(folder: Path) -> Iterator[tuple[trustme.CA, dict[str, str], ssl.SSLContext]]:
    """An authority, the server's files by it, and a client that trusts it."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    names = {"certificate": folder / "server.pem", "private_key": folder / "server.key", "client_ca": folder / "ca.pem"}
    names["certificate"].write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    names["private_key"].write_bytes(server.private_key_pem.bytes())
    names["client_ca"].write_bytes(authority.cert_pem.bytes())
    client = ssl.create_default_context()
    authority.configure_trust(client)
    yield authority, {name: str(path) for name, path in names.items()}, client


def test_tls_and_a_password(tmp_path: Path) -> None:
    """Profile 2."""
    with certificates(tmp_path) as (_, files, client):
        chargers = {"CP-1": {"machine": "charger-1", "password": hashed("one")}}
        del files["client_ca"]
        config = ocpp_config(tmp_path, chargers, security_profile=2, **files)

        async def scenario() -> None:
            async with central_system(config) as (_, url):
                assert url.startswith("wss://")
                assert await admitted(url, "CP-1", password="one", tls=client)
                assert not await admitted(url, "CP-1", password="two", tls=client)
                assert not await admitted(url, "CP-1", password="one", tls=ssl.create_default_context())
                assert not await admitted(url.replace("wss", "ws"), "CP-1", password="one")

        asyncio.run(scenario())


def test_a_certificate_names_the_charger(tmp_path: Path) -> None:
    """Profile 3: the common name of the client's certificate is the charger's id."""
    with certificates(tmp_path) as (authority, files, client):
        config = ocpp_config(tmp_path, TWO, security_profile=3, **files)

        def shows(issuer: trustme.CA, name: str) -> ssl.SSLContext:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            issuer.issue_cert(common_name=name).configure_cert(context)
            return context

        async def scenario() -> None:
            async with central_system(config) as (_, url):
                assert await admitted(url, "CP-1", tls=shows(authority, "CP-1"))
                assert not await admitted(url, "CP-2", tls=shows(authority, "CP-1"))
                assert not await admitted(url, "CP-1", tls=shows(trustme.CA(), "CP-1"))
                assert not await admitted(url, "CP-1", tls=client)

        asyncio.run(scenario())


def test_only_ocpp_is_spoken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with central_system(ocpp_config(tmp_path)) as (_, url):
            assert not await admitted(url, "CP-1", version="ocpp1.5")
            assert await admitted(url, "CP-1", version="ocpp2.0.1")

    asyncio.run(scenario())


def test_cards(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = ocpp_config(tmp_path, authorize="list", id_tags=["good"])
        async with central_system(config) as (central, url):
            await central.expect("CP-1", 1, "till", "s-1")
            async with ChargePoint(url, "CP-1") as point:
                for tag, status in (("good", "Accepted"), ("bad", "Invalid"), ("till", "Accepted")):
                    assert await point.call("Authorize", {"idTag": tag}) == {"idTagInfo": {"status": status}}
            async with ChargePoint(url, "CP-1", version="ocpp2.0.1") as point:
                token = {"idToken": "good", "type": "ISO14443"}
                assert await point.call("Authorize", {"idToken": token}) == {"idTokenInfo": {"status": "Accepted"}}

    asyncio.run(scenario())
