"""What a dry run of `settle` shows to a person."""

from deploy.cli.terminal import Terminal, day_text, units
from schemas.log import Log
from settlement.chain.paying import ether_text
from settlement.results import DryRun, PayeeChange

ROWS = 20
"""So many payees are shown; --json has them all."""


def show_dry_run(terminal: Terminal, log: Log, found: DryRun) -> None:
    """The posts, who gets what, gas, funds, and why it would be refused."""
    for post in found.posts:
        first, last = (day_text(log.epoch_span(epoch)[0]) for epoch in (post.first_epoch, post.last_epoch))
        terminal.say(f"post {post.sequence} would settle {first} to {last}: {post.windows:,} windows")
        terminal.say(f"  windows root 0x{post.windows_root}")
        terminal.say(f"  payouts root 0x{post.payouts_root}")
        terminal.say(f"  adds {units(post.added, found.decimals)}, owed in all {units(post.total, found.decimals)}")
    if found.unfinished:
        numbers = ", ".join(str(sequence) for sequence in found.unfinished)
        terminal.say(f"first comes post {numbers}, which was begun and is not mined")
    if found.posts:
        _show_payees(terminal, found)
        _show_costs(terminal, found)
    else:
        terminal.say("nothing to post")
    if found.waiting_for:
        terminal.say(f"then waits for {found.waiting_for}")
    terminal.say("nothing was sent, nothing was written")


def _show_payees(terminal: Terminal, found: DryRun) -> None:
    new = sum(not change.before for change in found.changes)
    terminal.say(
        f"{len(found.changes):,} payees get more, {new:,} of them for the first time;"
        f" {len(found.gone):,} whom the last post paid get nothing"
    )
    columns = ["account", "so far", "would get", "last post"]
    for title, changes in (("would be paid", found.changes), ("paid last time, and not now", found.gone)):
        if changes:
            terminal.table(title, columns, [_row(change, found.decimals) for change in changes[:ROWS]])
        if len(changes) > ROWS:
            terminal.say(f"and {len(changes) - ROWS:,} more: see --json")


def _row(change: PayeeChange, decimals: int) -> tuple[str, ...]:
    amounts = (change.before, change.after - change.before, change.last_amount)
    return (change.account, *(units(amount, decimals) for amount in amounts))


def _show_costs(terminal: Terminal, found: DryRun) -> None:
    short = " (too little)" if found.poster_wei < found.most_wei else ""
    terminal.say(
        f"gas {found.gas:,} a post: {ether_text(found.cost_wei)} ether now, {ether_text(found.most_wei)} at most;"
        f" the poster {found.poster} holds {ether_text(found.poster_wei)}{short}"
    )
    terminal.say(
        f"the ledger lacks {units(found.shortfall, found.decimals)}: run `tallyroot fund` first"
        if found.shortfall
        else "the ledger holds enough"
    )
    if found.refusal:
        terminal.say(f"it would be refused now: {found.refusal}")
