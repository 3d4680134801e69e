"""The report and the arithmetic of its page: our numbers, also after an edit, and no data that is markup."""

import hashlib
import json
import random
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.cli.options import data_folder
from deploy.explain.window_document import window_document
from deploy.report.day import read_days, wanted_day
from deploy.report.figures import Wish, stretch_days
from deploy.report.money import read_money
from deploy.report.report import ReportData, day_page, gather, read_part, render, write_report
from deploy.texts import money
from schemas.canonical import canonical_json
from schemas.errors import InvalidInput
from schemas.keccak import keccak
from schemas.units import DAY_MS
from settlement.head import genesis_head
from settlement.post import PostStanding
from settlement.split import split
from settlement.storage.posts import Store
from streams.core.replay import advance_through
from streams.reference.vectors import new_state, read_document, records_of
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.mutated_vectors import FILES
from tests.support.report_data import CHAIN, HOURLY, OWNER, SITE, fill, run_script, small_folder
from tests.support.sealed_windows import random_window
from tests.support.sim_log import START_MS, SimLog

CHECK_DAYS = """
  return given.days.map((day) => recomputeDay(day, new Map()).windows.map((window) =>
    ({ ...checkWindow(window, given.posts), start: window.stored.document.start_ms, post: null })));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def data(folder: Path) -> ReportData:
    return gather(data_folder(folder), Wish(), {OWNER.upper().replace("0X", "0x"): "owner"})


def test_hashes_are_those_of_the_libraries() -> None:
    draw = random.Random(1)
    texts = [
        draw.randbytes(size) for size in (*range(0, 300, 7), 135, 136, 137, 271, 272, 273, 55, 56, 63, 64, 65, 4_000)
    ]
    known = b"", b"abc", b"testing"
    code = "return given.map((text) => [toHex(keccak256(fromHex(text))), toHex(sha256(fromHex(text)))]);"
    found = run_script(code, [text.hex() for text in (*known, *texts)])
    assert found[0][0] == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert found[1][0] == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    assert found[2][0] == "5f16f4c7f149ac4f9510d9cf8cf384038ad348b3bcdc01915f95de12df9d1b02"
    assert found == [[keccak(text).hex(), hashlib.sha256(text).hexdigest()] for text in (*known, *texts)]


def test_canonical_bytes_and_splits_are_ours() -> None:
    documents = [
        {"b": [1, -2, None, True], "a": {"z": '\u00e9\n"\\\u2028', "A": ""}},
        [2**53, 0, {}],
        {"10": 1, "9": 2},
    ]
    draw = random.Random(2)
    splits = []
    for payees in (1, 2, 3, 7, 30):
        cuts = sorted(draw.sample(range(1, 10_000), payees - 1))
        points = dict(zip((f"0x{draw.getrandbits(160):040x}" for _ in range(payees)), (
            b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)), strict=True))  # fmt: skip
        splits += [(amount, points) for amount in (0, 1, 9_999, draw.getrandbits(40), draw.getrandbits(90))]
    code = """return [given.documents.map(canonicalJson), given.splits.map(([amount, points]) =>
      Object.fromEntries(splitAmount(BigInt(amount), Object.entries(points))))];"""
    texts, parts = run_script(
        code, {"documents": documents, "splits": [(str(amount), points) for amount, points in splits]}
    )
    assert texts == [canonical_json(document).decode() for document in documents]
    assert parts == [{name: str(part) for name, part in split(amount, points).items()} for amount, points in splits]


def test_every_window_proof_payout_and_head_of_the_page_fits(folder: Path, data: ReportData) -> None:
    assert [day.machine for day in data.days] == ["ev1", "ev2", "pv1"]
    for windows in run_script(CHECK_DAYS, data):
        assert len(windows) == 24
        assert all(window["digestHolds"] and window["rootHolds"] for window in windows)
    code = """return given.posts.map((post) => [checkPost(post, given),
      Object.keys(post.accounts).map((account) => checkPayout(post, account, 0n).holds)]);"""
    posts = run_script(code, data)
    assert len(posts) == len(data.posts) == 2
    for post, payouts in posts:
        assert post["headHolds"] and post["follows"] and post["manifestHolds"]
        assert payouts == [True, True]
    genesis = run_script("return toHex(genesisHead(given));", CHAIN)
    assert genesis == genesis_head(31337, CHAIN["ledger"], CHAIN["token"], "USD", bytes(32), 0).hex()


def test_what_the_page_shows_adds_up(data: ReportData) -> None:
    earned = int(data.figures.earned_micros)
    assert sum(int(micros) for _, _, micros in data.incomes) == earned
    assert sum(int(micros) for _, _, micros in data.flows) == earned > 0
    assert sum(int(row.net_micros) for row in data.machines) == earned
    assert data.figures.entries == data.figures.accepted + data.figures.duplicates + sum(data.figures.rejects.values())
    assert data.figures.rejects == {"undecodable": 1}
    assert data.posts[-1].header.total == str(earned)
    assert (data.claimed.units, data.claimed.accounts) == ("1000", 1)
    assert data.names == {OWNER: "owner"}


def test_the_page_writes_money_as_the_commands_do() -> None:
    draw = random.Random(5)
    amounts = [0, 1, 9_999, 10_000, 999_999, 8_971_416_666, 8_971_419_999, -1, -10_000, -1_239_999, 10**24 - 1]
    amounts += [draw.randint(-(10**12), 10**12) for _ in range(200)]
    found = run_script("return given.map(money);", [str(amount) for amount in amounts], parts=("words.js",))
    assert [f"{text} USD" for text in found] == [money(amount, "USD") for amount in amounts]


# Another usage in a field of the page is another log: what the page makes of it is what we make of that log.
EDIT = """
  const base = given.days.map((day) => recomputeDay(day, new Map()));
  const edits = new Map(given.edits.map(([key, value]) => [key, BigInt(value)]));
  const now = given.days.map((day) => recomputeDay(day, edits));
  const last = given.posts.at(-1);
  return {
    windows: now.flatMap((day) =>
      day.windows.map((w) => [w.stored.document.machine, w.stored.document.start_ms, w.digest])),
    changed: now.map((day, d) => day.windows.filter((w, i) => w.digest !== base[d].windows[i].digest).length),
    payouts: now.flatMap((day, d) => [...payoutChanges(base[d], day, last.header.sequence)]),
    holds: now.map((day) => day.windows.map((w) => checkWindow(w, given.posts).rootHolds)),
  };
"""


def test_an_edit_gives_what_another_log_would_give(folder: Path, data: ReportData, tmp_path: Path) -> None:
    other = small_folder(tmp_path, {30: 500, 33: 77, 37: -9})
    edits = [
        (f"{now.offset}/{now.row}", str(now.adds[0].usage))
        for before, after in zip(data.days, gather(data_folder(other), Wish(), {}).days, strict=True)
        for was, now in zip(before.items, after.items, strict=True)
        if was.adds != now.adds
    ]
    assert len(edits) == 5  # a register that shows more adds more, and the one after it less
    found = run_script(EDIT, {"days": data.days, "posts": data.posts, "edits": edits})
    truth = {
        (window.machine, window.start_ms): window.digest.hex()
        for machine in ("ev1", "ev2", "pv1")
        for window in wanted_day(other, HOURLY, machine, "", 0, START_MS).windows
    }
    assert {(machine, start_ms): digest for machine, start_ms, digest in found["windows"]} == truth
    assert sum(found["changed"]) > 0
    assert any(not holds for windows in found["holds"] for holds in windows)
    before, after = (Store(place).payouts(2) for place in (folder, other))
    change = dict.fromkeys((OWNER, SITE), 0)
    for account, micros in found["payouts"]:
        change[account] += int(micros)
    for account in (OWNER, SITE):
        assert int(before[account].cumulative) + change[account] == int(after[account].cumulative)


@pytest.mark.parametrize("seed", range(6))
def test_a_window_s_bytes_are_ours(seed: int) -> None:
    """Whatever a window holds: flags, statements, dues, amounts of 63 bits, texts beyond ASCII."""
    windows = [random_window(random.Random(100 * seed + place)) for place in range(20)]
    salt = "5a" * 16 if seed % 2 else ""
    documents = [window_document(window) for window in windows]
    code = "return given[0].map((w) => [toHex(windowBytes(w)), toHex(windowDigest(w, given[1]))]);"
    expected = [[window.canonical().hex(), window.sealed(salt).digest.hex()] for window in windows]
    assert run_script(code, [documents, salt]) == expected


@pytest.mark.parametrize("seed", [4, 8, 11])
def test_dirty_days_are_recomputed_too(seed: int, tmp_path: Path) -> None:
    """Late rows, resets, suspects, corrections, new versions and boots: every window has our digest."""
    log = small_log()
    fill(tmp_path, log, SimLog(dirty_log(seed, 0.3, 200)))
    if not list(tmp_path.glob("epochs/*/0.manifest.json")):
        pytest.skip("this log ends no epoch")
    days = []
    for day in range(19_670, 19_680):
        for machine in ("m0", "m1", "m2"):
            try:
                wanted = wanted_day(tmp_path, log, machine, "", 0, day * DAY_MS)
            except InvalidInput:
                continue
            days += read_days(tmp_path, log, [wanted])
    names = [(w.machine, w.start_ms, w.adjusts_ms or 0) for day in days for w in day.wanted.windows]
    money = read_money(tmp_path, log, names, PostStanding.initial())
    pages = [day_page(day, money) for day in days]
    checks = [check for windows in run_script(CHECK_DAYS, {"days": pages, "posts": []}) for check in windows]
    assert len(checks) == len(names) > 0
    assert [check for check in checks if not check["digestHolds"]] == []


@pytest.mark.parametrize("path", FILES[::24], ids=lambda path: path.name.removesuffix(".json.gz"))
def test_windows_of_any_log_hash_to_our_digest_and_add_up(path: Path) -> None:
    """Prepaid sessions, orders and refunds, as the core seals them."""
    document = read_document(path)
    windows = [w for part in advance_through(new_state(document), records_of(document)) for w in part.windows]
    assert any(window.dues for window in windows) and any(window.sessions for window in windows)
    code = """return given.map((w) => {
      const { expenses, uncollected, collected } = prepaidSums(w);
      return [toHex(sha256(windowBytes(w))), expenses, uncollected, collected].map(String);
    });"""
    expected = [
        [hashlib.sha256(window.canonical()).hexdigest()]
        + [str(sum_) for sum_ in (window.expenses_micros, window.uncollected_micros, window.collected_micros)]
        for window in windows
    ]
    assert run_script(code, [window_document(window) for window in windows]) == expected


def test_what_does_not_fit_is_seen(folder: Path, tmp_path: Path) -> None:
    """The page takes nothing for granted: another amount in a window, or a shorter proof, shows."""
    data = gather(data_folder(folder), Wish(machine="ev1"), {})
    (day,) = data.days
    window = day.windows[5]
    assert window.settled is not None
    lie = msgspec.structs.replace(
        window, document=window.document | {"gross_micros": "1", "net_micros": "1"}, digest="00" * 32
    )
    off = msgspec.structs.replace(
        window, settled=msgspec.structs.replace(window.settled, proof=window.settled.proof[1:])
    )
    for bad, digest_holds, root_holds in ((lie, False, True), (off, True, False)):
        windows = (*day.windows[:5], bad, *day.windows[6:])
        page = {"days": [msgspec.structs.replace(day, windows=windows)], "posts": data.posts}
        check = run_script(CHECK_DAYS, page)[0][5]
        assert (check["digestHolds"], check["rootHolds"]) == (digest_holds, root_holds)


def test_a_long_log_makes_no_large_page(folder: Path, data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old posts, small accounts and single days give way; what is left still fits and still adds up."""
    monkeypatch.setattr("deploy.report.money.POSTS", 1)
    monkeypatch.setattr("deploy.report.money.ACCOUNTS", 1)
    monkeypatch.setattr("deploy.report.report.FLOW_ACCOUNTS", 1)
    monkeypatch.setattr("deploy.report.figures.MACHINES", 1)
    money = read_money(folder, HOURLY, [], PostStanding.initial())
    assert [post.header.sequence for post in money.posts] == [2]
    assert (money.posts_in_all, money.posts[0].accounts_in_all, list(money.posts[0].accounts)) == (2, 2, [OWNER])
    page = {"posts": money.posts, "states": data.states, "chain": data.chain}
    assert run_script("return checkPost(given.posts[0], given);", page)["follows"] is None
    few = gather(data_folder(folder), Wish(), {})
    assert [row.machine for row in few.machines][1:] == ["(others)"]
    assert {account for _, account, _ in few.flows} == {OWNER, "(others)"}
    for rows in (few.flows, few.incomes):
        assert sum(int(micros) for _, _, micros in rows) == int(few.figures.earned_micros)
    year = msgspec.structs.replace(data.figures, last_ms=data.figures.first_ms + 365 * DAY_MS)
    assert stretch_days(year) == 9


def test_data_is_never_markup(data: ReportData) -> None:
    evil = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028"
    first = msgspec.structs.replace(data.machines[0], machine=evil, kind=evil)
    page = render(msgspec.structs.replace(data, machines=[first, *data.machines[1:]], names={OWNER: evil})).decode()
    assert page.count("<script") == page.count("</script>") == 2
    assert "<!--" not in page and "<img" not in page
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert json.loads(found[1])["machines"][0]["machine"] == evil


def test_the_page_lets_only_its_own_script_and_style_run(data: ReportData) -> None:
    page = render(data).decode()
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert found is not None
    assert found[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in found[1] and "http" not in found[1]
    sources = [read_part(path.name) for path in (Path(__file__).parents[2] / "deploy" / "report" / "page").iterdir()]
    for word in ("innerHTML", "insertAdjacent", "document.write", "eval(", "fetch(", "XMLHttp", "import(", "style="):
        assert not [source for source in sources if word in source], word


def test_colours_can_be_read_by_everybody() -> None:
    """Text on its ground has a contrast of 4.5 at least, in both schemes (WCAG 2.2, 1.4.3)."""
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in read_part("page.css").split("@media", 2)[:2]
    ]
    assert [len(scheme) for scheme in schemes] == [17, 17]
    for scheme in schemes:
        for text in ("ink", "quiet", "accent", "good", "bad"):
            grounds = ("good-soft", "bad-soft") if text in ("ink", "quiet") else (f"{text}-soft",)
            for ground in ("page", "card", "soft", *(ground for ground in grounds if ground in scheme)):
                assert _contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
        assert min(_contrast(scheme["card"], scheme[f"k{k}"]) for k in range(6)) >= 3


def _contrast(one: str, other: str) -> float:
    def light(color: str) -> float:
        parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    words = ["report", "--data-dir", str(folder), "--out", str(out)]
    shown = CliRunner().invoke(app, [*words, "--machine", "pv1", "--name", f"{OWNER}=owner", "--json"])
    assert shown.exit_code == 0, shown.output
    result = json.loads(shown.stdout.splitlines()[-1])
    assert (result["days"], result["readings"], result["posts"]) == (1, 24, 2)
    assert result["bytes"] == out.stat().st_size < 200_000
    with pytest.raises(InvalidInput, match="can't be written"):
        write_report(data_folder(folder), tmp_path / "no such folder" / "page.html")
    assert [day.machine for day in gather(data_folder(folder), Wish(first="pv1"), {}).days] == ["pv1", "ev1", "ev2"]
    monkeypatch.setattr("deploy.report.figures.DAY_READINGS_MAX", 23)
    for wrong, word in (
        (["--machine", "pv1"], "too many for a page"),
        (["--machine", "nobody"], "there is no final day"),
        (["--day", "1.2."], "is not a day"),
        (["--name", "x"], "is not a name for an account"),
    ):
        refused = CliRunner().invoke(app, [*words, *wrong])
        assert isinstance(refused.exception, InvalidInput)
        assert word in str(refused.exception)


def test_a_folder_without_a_chain_has_a_page_too(tmp_path: Path) -> None:
    from tests.support.report_data import small_fleet

    fill(tmp_path, HOURLY, small_fleet())
    data = gather(data_folder(tmp_path), Wish(), {})
    assert data.chain is None and data.posts == ()
    assert data.unposted_micros == data.figures.earned_micros
    assert all(check["digestHolds"] and not check["posted"] for day in run_script(CHECK_DAYS, data) for check in day)
