"""Commands that keep a data folder: backup and restore, and what may be deleted."""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()

Place = Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://bucket/prefix?region=…")]


@app.command()
def backup(
    place: Place,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep only the newest of this many backups there.")] = None,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Copy keystores as well; never passwords.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Copy the data folder while all runs; what was copied before is not copied again."""
    from deploy.backup.backup import backup as make
    from deploy.backup.contents import place_of

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    made = make(data, place_of(place), terminal.progress, keep=keep, with_keys=with_keys)
    terminal.say(
        f"backup {made.name}: {made.files:,} files, {made.bytes:,} bytes;"
        f" {made.new_files:,} files, {made.new_bytes:,} bytes of them new"
    )
    for text in made.damaged:
        terminal.say(f"left out: {text}")
    if made.removed:
        terminal.say(f"removed {len(made.removed)} older: {', '.join(made.removed)}")
    terminal.result(made)
    if made.damaged:
        raise typer.Exit(1)


@app.command()
def merge(data_dir: DataDir = None, json: Json = False) -> None:
    """Merge the tables of small epochs for analysts, a file a day: queries list few files, proofs stay as they are."""
    from streams.storage.merged import merge as merge_days

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    data.fetch_epochs()
    done = merge_days(data.data_dir, data.log(), terminal.progress)
    if done.days:
        terminal.say(
            f"merged {len(done.days):,} days or months, {done.days[0]} to {done.days[-1]}: {done.files_before:,} files"
            f" that queries listed are {done.files_after:,}"
        )
    else:
        terminal.say("nothing new to merge: a day is merged once all partitions have ended its epochs")
    terminal.result(done)


@app.command()
def prune(
    older_than: Annotated[str, typer.Option(help="Since an epoch's end, in the log's time, such as 90d.")] = "90d",
    kept_in: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help="A place of backups, or kafka; repeatable.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Bring back all archives that were pruned.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Delete archives that the store, a backup or Kafka holds as well, and what killed writers left; no proof."""
    from contextlib import closing, nullcontext

    from deploy.backup.contents import place_of
    from deploy.backup.prune import Unpruned
    from deploy.backup.prune import prune as delete
    from schemas.parsing import duration_ms

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if undo:
        brought = data.whole_archive()
        terminal.say(f"{brought:,} files of archives are here again")
        terminal.result(Unpruned(brought))
        return
    places = kept_in or []
    backups = [place_of(place) for place in places if place != "kafka"]
    age_ms = duration_ms(older_than)
    with closing(data.log_reader()) if "kafka" in places else nullcontext() as reader:
        done = delete(data, age_ms, backups, reader, dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    terminal.say(
        f"{verb} {len(done.archives):,} archives and {len(done.leftovers):,} leftovers, {done.bytes:,} bytes;"
        " manifests, leaves and posts stay"
    )
    if done.kept:
        terminal.say(f"{len(done.kept):,} older archives are nowhere else and stay: name where they are with --kept-in")
    terminal.result(done)


@app.command()
def restore(
    place: Place,
    check: Annotated[
        bool, typer.Option("--check", help="Rehearse: restore beside, look through all, remove it.")
    ] = False,
    name: Annotated[str | None, typer.Option("--backup", help="Its name; else the newest.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Bring a backup back into an empty data folder; safe to repeat. With --check only say whether it could be."""
    from deploy.backup.contents import place_of

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if not check:
        from deploy.backup.restore import restore as bring_back

        found = bring_back(place_of(place), data.data_dir, terminal.progress, name)
        terminal.say(f"{data.data_dir} is backup {found.name}: {found.files:,} files, {found.bytes:,} bytes")
        terminal.say(
            "next: `tallyroot up` (or set KAFKA_BOOTSTRAP_SERVERS and CHAIN_RPC_URL), then `tallyroot restore-posts`"
        )
        terminal.result(found)
        return
    from deploy.backup.rehearsal import rehearse

    seen = rehearse(data, place_of(place), terminal.progress, name)
    terminal.table(
        "", ("partition", "goes on at", "to read"),
        [(one.partition, f"{one.next_offset:,}", "?" if one.to_read is None else f"{one.to_read:,}")
         for one in seen.partitions],
    )  # fmt: skip
    terminal.say(
        f"backup {seen.name}: {seen.files:,} files, {seen.bytes:,} bytes, every digest right; {seen.epochs:,} epochs"
        f" recomputed; {seen.posts:,} posts"
    )
    for text in seen.notes:
        terminal.say(f"note: {text}")
    for text in seen.findings:
        terminal.say(f"wrong: {text}")
    terminal.say("it can be restored" if seen.ok else "it can't be restored as it is")
    terminal.result(seen)
    if not seen.ok:
        raise typer.Exit(1)
