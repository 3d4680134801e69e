"""Commands at the devices: gateways of field protocols."""

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def gateway(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="ocpp, modbus, mqtt or http.")],
    config: Annotated[Path, typer.Option(metavar="FILE", help="The gateway's TOML file.")],
    discover: Annotated[
        bool, typer.Option("--discover", help="Print what the devices offer, and a registration to start from.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take readings from devices of a field protocol, and send them to the log until it is stopped.

    What the file's [log] leaves out (servers, log id, topic, partitions) is the data folder's. On a device without
    tallyroot the same is `python -m tallyroot_gateway PROTOCOL --config FILE`.
    """
    from deploy.cli.results import GatewayEnded
    from deploy.config import load_settings
    from tallyroot_gateway.__main__ import PROTOCOLS, main

    if protocol not in PROTOCOLS:
        raise InvalidInput(f"there is no gateway for '{protocol}': choose {', '.join(PROTOCOLS)}")
    words = [protocol, "--config", str(config), *(["--discover"] if discover else [])]
    kafka = load_settings().kafka.librdkafka()
    with redirect_stdout(StringIO() if json else sys.stdout) as shown:
        code = main(words, log=_log_of(data_dir), kafka=kafka)
    discovered = shown.getvalue() if discover and isinstance(shown, StringIO) else None
    Terminal(as_json=json).result(GatewayEnded(code, discovered))
    if code:
        raise typer.Exit(code)


def _log_of(data_dir: Path | None) -> dict[str, Any]:
    """What a data folder knows of its log; nothing where there is none."""
    folder = data_folder(data_dir)
    try:
        log = folder.log()
    except InvalidInput:
        return {}
    known = {"log_id": log.log_id, "topic": log.topic, "partitions": log.partitions}
    try:
        return known | {"bootstrap_servers": str(folder.kafka_servers())}
    except InvalidInput:
        return known
