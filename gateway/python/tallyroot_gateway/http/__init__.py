"""Readings by POST, from anything that speaks HTTP: as JSON, lines of JSON, or CloudEvents."""

from collections.abc import Mapping

from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.http.app import new_app
from tallyroot_gateway.http.config import HttpConfig, check_file
from tallyroot_gateway.http.form import form_of
from tallyroot_gateway.http.server import serve

CONFIG = HttpConfig


async def run(config: HttpConfig, kafka: Mapping[str, str] | None) -> None:
    """Serves until it is cancelled. Raises InvalidInput for what the file has wrong, or a port that is taken."""
    check_file(config)
    async with Intake(config, kafka) as intake:
        await serve(new_app(config, intake), config.http)


async def discover(config: HttpConfig) -> None:
    """Prints a form for `tallyroot register` of the machines that the file names, and how to send a reading."""
    check_file(config)
    print(form_of(config))
