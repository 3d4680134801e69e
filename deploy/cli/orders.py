"""Commands about what machines order, and about those who supply it."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()

CANCEL = "cancel MACHINE ITEM NUMBER"


@app.command()
def orders(
    words: Annotated[
        list[str] | None, typer.Argument(metavar=f"[{CANCEL}]", help="Cancel one that nothing has arrived for.")
    ] = None,
    machine: Annotated[str | None, typer.Option(help="Only the orders of this machine.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those: open, settled, cancelled or lapsed.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is cancelled, for auditors.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What machines ordered, received and were invoiced for; `orders cancel` ends one."""
    if words and (words[0] != "cancel" or len(words) != 4):
        raise InvalidInput(f"write `tallyroot orders`, or `tallyroot orders {CANCEL} --reason TEXT`")
    if words and (machine is not None or state is not None):
        raise InvalidInput("--machine and --state choose what is listed: leave them out of a cancellation")
    if bool(words) != (reason is not None):
        raise InvalidInput(f"a cancellation has a --reason, for auditors: tallyroot orders {CANCEL} --reason TEXT")
    from deploy.machines import orders as found

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if words:
        _, name, item, number = words
        if not number.isascii() or not number.isdecimal():
            raise InvalidInput(f"'{number}' is not the number of an order: `tallyroot orders` lists them")
        cancelled = found.cancel(data, terminal.step, name, item, int(number), reason or "")
        terminal.say(f"accepted: {name} {item} {number} is cancelled ({cancelled.reason})")
        terminal.result(cancelled)
        return
    shown = found.listed(data, terminal.step, machine, state)
    columns = {
        "machine": "machine", "item": "item", "number": "number", "state": "state", "placed_ms": "placed (UTC)",
        "quantity": "ordered", "unit_price_micros": "at most", "received": "received", "invoiced": "invoiced",
        "invoiced_price_micros": "at", "amount_micros": "amount", "currency": "", "supplier": "supplier",
    }  # fmt: skip
    rows = [[_cell(name, getattr(row, name)) for name in columns] for row in shown.orders]
    terminal.table("orders", list(columns.values()), rows)
    terminal.result(shown)


def _cell(name: str, value: int | str | None) -> object:
    from decimal import Decimal

    from deploy.texts import moment_text

    if not isinstance(value, int):
        return value
    return moment_text(value) if name == "placed_ms" else Decimal(value) / 10**6 if name.endswith("micros") else value


@app.command()
def supplier(
    price: Annotated[list[str], typer.Option(metavar="ITEM=AMOUNT", help="What a piece costs; repeatable.")],
    key_from: Annotated[
        Path | None,
        typer.Option(
            "--key-from", metavar="FILE", help="A keystore, its password beside it in FILE's name with .password."
        ),
    ] = None,
    deliver_after: Annotated[str, typer.Option(metavar="SPAN", help="How long a simulated delivery takes.")] = "5s",
    once: Annotated[bool, typer.Option("--once", help="Stop once all that is ordered now is invoiced.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Supply machines: take the orders of an account, deliver (simulated), and invoice each once."""
    from deploy.supply.supply import supply
    from schemas.parsing import duration_ms

    terminal = Terminal(as_json=json)
    ended = supply(
        data_folder(data_dir), terminal.step, key_from=key_from, prices=price, delay_ms=duration_ms(deliver_after),
        once=once,
    )  # fmt: skip
    for order in ended.orders:
        terminal.say(f"{order.machine} {order.item} {order.number}: {order.quantity:,}, {order.state}")
    terminal.result(ended)
