"""The report in a real browser: it checks itself, an edit turns it red; by keyboard, on a phone, in print."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.cli.options import data_folder
from deploy.report.figures import Wish
from deploy.report.report import ReportData, SignRow, gather, render
from deploy.texts import money
from schemas.units import DAY_MS
from tests.support.chromium import Chromium, find_chromium
from tests.support.report_data import OWNER, SITE, small_folder

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install Debian's package chromium"),
]

VERDICT = "document.getElementById('verdict')"
CHEAT = "document.querySelector('#detail button.main')"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    folder = small_folder(tmp_path_factory.mktemp("report"))
    return gather(data_folder(folder), Wish(), {OWNER: "owner", SITE: "site"})


@pytest.fixture(scope="module")
def page(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(render(data))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None
    running = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


def test_it_checks_itself_without_a_network_or_an_error(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.ask(f"{VERDICT}.dataset.state") == "good"
    text = browser.ask(f"{VERDICT}.innerText")
    for part in ("everything fits", "72 windows", "72 readings", "72 proofs", "4 payouts", "2 posts"):
        assert part in text
    assert browser.told("Runtime.exceptionThrown", "Log.entryAdded") == []
    requests = {params["request"]["url"].split(":")[0] for params in browser.told("Network.requestWillBeSent")}
    assert requests <= {"file", "data"}


def test_what_is_left_out_and_what_earns_too_little_is_named(
    browser: Chromium, data: ReportData, tmp_path: Path
) -> None:
    signs = [
        SignRow(sign="steps", line="bay energy: steps, 3 readings; burst = 500 mends it", advice="it moves in steps")
    ]
    skipped = ['Post 1: the offsets 5 to 9 of partition 0 were skipped ("disk").']
    path = tmp_path / "report.html"
    path.write_bytes(render(msgspec.structs.replace(data, signs=signs, signs_in_all=21, skipped=skipped)))
    browser.open(path)
    said = browser.ask("document.getElementById('signs').innerText")
    assert [line for line in said.splitlines() if line] == [
        "What earns less than it could",
        "bay energy: steps, 3 readings; burst = 500 mends it",
        "And 20 more: see tallyroot machines.",
        "steps: it moves in steps",
    ]
    assert browser.ask("document.getElementById('skipped').innerText") == f"By an operator's decision: {skipped[0]}"


def test_customers_are_on_the_left_of_the_picture_and_refunds_go_back_to_them(
    browser: Chromium, data: ReportData, tmp_path: Path
) -> None:
    buyer = "0x" + "77" * 20
    paid = [(0, buyer, "2000000", "500000"), (1, OWNER, "1000000", "0")]
    path = tmp_path / "report.html"
    path.write_bytes(render(msgspec.structs.replace(data, customers=paid, suppliers=[SITE], names={OWNER: "owner"})))
    browser.open(path)
    bands = browser.ask(f"({TEXTS})('#flow path title')")
    assert [band for band in bands if band.startswith("0x7777") and band.endswith(" to ev1: 2.00")]
    assert [band for band in bands if band.startswith("0x7777") and band.endswith(" to Back to customers: 0.50")]
    assert "owner to ev2: 1.00" in bands
    labels = browser.ask(f"({TEXTS})('#flow svg text')")
    assert [label for label in labels if label.startswith("Supplier 0x")]
    rows = browser.ask(f"({ROWS})('#flow')")
    assert [row[1:] for row in rows if row[0].startswith("Customer 0x7777")] == [
        ["Chargers", "2.000000"], ["Back to the customer", "0.500000"],
    ]  # fmt: skip


def test_an_edit_turns_red_and_back(browser: Chromium, page: Path) -> None:
    browser.open(page)
    before = browser.ask("[...document.querySelectorAll('.hash code')].map((code) => code.textContent)")
    assert browser.ask("document.querySelectorAll('.hash.broken, .changed-text, #editor del').length") == 0
    browser.ask(f"{CHEAT}.click()")
    assert browser.ask(f"{VERDICT}.dataset.state") == "edited"
    assert "2 accounts would be paid another sum" in browser.ask("document.getElementById('changes').innerText")
    boxes = browser.ask(
        "[...document.querySelectorAll('.hash')].map((box) => [box.className, box.querySelector('code').textContent,"
        " box.querySelector('del code').textContent])"
    )
    assert [kept for _, _, kept in boxes] == before
    assert all("broken" in name and now != kept for name, now, kept in boxes)
    red = browser.ask("getComputedStyle(document.querySelector('.changed-text')).color")
    assert red == "rgb(176, 32, 26)"
    assert browser.ask("[...document.querySelectorAll('#detail table')].at(-1).innerText").count("✗") == 2
    browser.ask(
        "[...document.querySelectorAll('#editor button')].find((b) => b.textContent === 'Put everything back').click()"
    )
    assert browser.ask(f"{VERDICT}.dataset.state") == "good"
    assert browser.ask("document.querySelectorAll('.hash.broken, .changed-text, #editor del').length") == 0


def test_one_reading_is_edited_with_the_keyboard_alone(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.ask("document.getElementById('check').focus()")
    for place in ("select#pick", "button[role=option]", "input.reading"):
        browser.press("Tab")
        assert browser.ask(f"document.activeElement.matches('{place}')"), place
    browser.press("Tab", shift=True)
    chosen = browser.ask("document.activeElement.innerText")
    browser.press("Home")
    browser.press("ArrowDown")
    assert browser.ask("document.activeElement.getAttribute('aria-selected')") == "true"
    assert browser.ask("document.activeElement.innerText") != chosen
    browser.press("Tab")
    browser.ask("document.activeElement.select()")
    for key in "1777":
        browser.press(key)
    assert browser.ask("document.activeElement.value") == "1777"  # the field keeps the focus while all else is redrawn
    assert "You changed 1 reading" in browser.ask(f"{VERDICT}.innerText")
    browser.press("x")
    assert browser.ask("document.activeElement.getAttribute('aria-invalid')") == "true"


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_every_control_has_a_name(browser: Chromium, page: Path, dark: bool) -> None:
    browser.open(page, width=390, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(16, 20, 26)" if dark else "rgb(246, 247, 248)"
    )
    nameless = browser.ask(
        "[...document.querySelectorAll('button, input, select, svg[role=img], summary')].filter((it) =>"
        " !(it.innerText || it.getAttribute('aria-label') || it.labels?.length)).map((it) => it.outerHTML.slice(0, 99))"
    )
    assert nameless == []
    assert browser.ask("document.querySelectorAll('h1').length") == 1
    browser.ask(f"{CHEAT}.click()")
    assert browser.ask("document.documentElement.scrollWidth") <= 390


TEXTS = """(at) => [...document.querySelectorAll(at)].map((it) => it.textContent)"""
ROWS = """(at) => [...document.querySelectorAll(at + ' tbody tr')].map((row) =>
  [...row.children].map((cell) => cell.textContent))"""


def cut(exact: str) -> str:
    """An amount of six decimals as one of two, cut off towards zero."""
    return exact[:-4]


def test_one_figure_reads_the_same_everywhere(browser: Chromium, data: ReportData, page: Path) -> None:
    browser.open(page)
    exact = {row[0]: row[-1] for row in browser.ask(f"({ROWS})('#machines')")}
    shown = {row[0]: row[1] for row in browser.ask(f"({ROWS})('#income')")}
    assert shown == {name: cut(amount) for name, amount in exact.items()}
    labels = browser.ask(f"({TEXTS})('#flow svg text')")
    for machine, amount in shown.items():
        assert any(label.endswith(f"{machine} {amount}") for label in labels), (machine, labels)
    kinds: dict[str, int] = {}
    payees: dict[str, int] = {}
    for kind, payee, amount in browser.ask(f"({ROWS})('#flow')"):
        micros = int(amount.replace(",", "").replace(".", ""))
        kinds[kind] = kinds.get(kind, 0) + micros
        payees[payee] = payees.get(payee, 0) + micros
    for name, micros in (kinds | payees).items():
        assert f"{name}{money(micros, 'USD')}" in labels
    tiles = dict(
        zip(browser.ask(f"({TEXTS})('.tiles dt')"), browser.ask(f"({TEXTS})('.tiles dd .whole')"), strict=True)
    )
    earned = money(int(data.figures.earned_micros), "")
    assert tiles["Earned"] == tiles["Granted by posts"] == earned.strip()
    assert f"{earned}USD granted up to here" in browser.ask("document.getElementById('posts').innerText")
    by_bar: dict[tuple[int, str], int] = {}
    for at, stretch, micros in data.incomes:
        by_bar[stretch, data.machines[at].kind] = by_bar.get((stretch, data.machines[at].kind), 0) + int(micros)
    titles = browser.ask(f"({TEXTS})('#income svg rect title')")
    assert sorted(title.split(": ")[1] for title in titles) == sorted(
        money(micros, "USD") for micros in by_bar.values() if micros
    )


def test_simulated_income_and_unpaid_payees_are_marked(browser: Chromium, data: ReportData, tmp_path: Path) -> None:
    machines = [msgspec.structs.replace(row, kind="robot (simulated)") for row in data.machines[:1]] + data.machines[1:]
    figures = msgspec.structs.replace(data.figures, simulated_micros="8971416666")
    claimed = msgspec.structs.replace(data.claimed, block=1_021, time_s=1_568_000_000)
    path = tmp_path / "marked.html"
    unsettled = {"Bob": "12300000", "0x" + "aB" * 20: "1"}
    path.write_bytes(
        render(msgspec.structs.replace(data, machines=machines, figures=figures, claimed=claimed, unsettled=unsettled))
    )
    browser.open(path, width=390)
    tiles = browser.ask("document.getElementById('figures').innerText")
    assert "8,971.41 of it simulated" in tiles
    assert "1 account, as of block 1,021, 9 Sep 2019 03:33 UTC" in tiles
    for place in ("flow", "income", "machines"):
        assert "Robots (simulated)" in browser.ask(f"document.getElementById('{place}').textContent"), place
    assert browser.ask(f"({TEXTS})('#unsettled li')") == [
        "Unsettled: 12.30 USD to “Bob” (not an account)",
        f"Unsettled: 0.00 USD to “0x{'aB' * 20}” (mistyped, no such account)",
    ]


def test_on_a_phone_no_amount_breaks_and_ids_are_whole(browser: Chromium, data: ReportData, tmp_path: Path) -> None:
    """With long ids, large sums and six weeks of days."""
    name = "taxi.a-very-long-name-of-an-association-" + "x" * 24
    machines = [msgspec.structs.replace(row, machine=name, net_micros="98765432123456") for row in data.machines[:1]]
    figures = msgspec.structs.replace(
        data.figures, last_ms=data.figures.first_ms + 41 * DAY_MS, earned_micros="98765432123456"
    )
    path = tmp_path / "large.html"
    path.write_bytes(render(msgspec.structs.replace(data, machines=machines + data.machines[1:], figures=figures)))
    for width in (390, 1440):
        browser.open(path, width=width)
        assert browser.ask("document.documentElement.scrollWidth") <= width
        broken = browser.ask(
            "[...document.querySelectorAll('.heat td.sum, td.number, .tiles .whole, td .whole')].filter((it) =>"
            " it.offsetParent && !it.querySelector('input') && (it.scrollWidth > it.clientWidth && it.clientWidth ||"
            " [...it.childNodes].some((part) => { const all = document.createRange(); all.selectNodeContents(part);"
            " return part.nodeType === 3 && all.getClientRects().length > 1; }))).map((it) => it.textContent)"
        )
        assert broken == []
        assert browser.ask("document.querySelector('.heat .who[title^=taxi]').innerText.replaceAll('\\n', '')") == name
        who = "document.querySelector('.heat .who[title^=taxi]')"
        assert browser.ask(f"{who}.scrollWidth <= {who}.clientWidth && {who}.scrollHeight <= {who}.clientHeight")
    browser.open(path, width=390)
    assert browser.ask("(() => { const it = document.querySelector('.heat').parentElement;"
                       " return it.scrollWidth > it.clientWidth + 200; })()")  # fmt: skip


def test_it_prints(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.pdf().startswith(b"%PDF")


def test_a_machine_with_markup_for_a_name_is_harmless(browser: Chromium, data: ReportData, tmp_path: Path) -> None:
    evil = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'>"
    machines = [msgspec.structs.replace(row, machine=evil + row.machine, kind=evil) for row in data.machines]
    days = tuple(msgspec.structs.replace(day, machine=evil, kind=evil) for day in data.days)
    path = tmp_path / "evil.html"
    path.write_bytes(render(msgspec.structs.replace(data, machines=machines, days=days, names={OWNER: evil})))
    browser.open(path)
    assert browser.ask("[window.hit ?? 0, document.images.length, document.scripts.length]") == [0, 0, 2]
    assert evil in browser.ask("document.getElementById('income').innerText")
    assert browser.told("Runtime.exceptionThrown", "Log.entryAdded") == []


def test_a_false_page_says_so(browser: Chromium, data: ReportData, tmp_path: Path) -> None:
    """One micro more in a posted sum, one unit more in a reading's usage: the page itself names both."""
    post = data.posts[1]
    kept = post.accounts[OWNER]
    raised = msgspec.structs.replace(kept, cumulative=str(int(kept.cumulative) + 1))
    posts = (data.posts[0], msgspec.structs.replace(post, accounts=post.accounts | {OWNER: raised}))
    day = data.days[0]
    (line,) = day.items[5].adds
    more = msgspec.structs.replace(line, usage=line.usage + 1)
    items = (*day.items[:5], msgspec.structs.replace(day.items[5], adds=(more,)), *day.items[6:])
    days = (msgspec.structs.replace(day, items=items), *data.days[1:])
    path = tmp_path / "false.html"
    path.write_bytes(render(msgspec.structs.replace(data, posts=posts, days=days)))
    browser.open(path)
    text = browser.ask(f"{VERDICT}.innerText")
    assert browser.ask(f"{VERDICT}.dataset.state") == "bad"
    assert f"the sum of {OWNER} in post 2 has no proof" in text
    assert f"{day.machine} at 01:15" in text and "is not what its readings come to" in text


def test_statements_and_dues_of_a_window_are_told_in_words(browser: Chromium, data: ReportData, tmp_path: Path) -> None:
    """A window that some other log made: a supplier, a refund, and more used than paid."""
    day = data.days[0]
    window = day.windows[3]
    gross = int(window.document["gross_micros"])
    sessions = [
        {
            "session": "s1",
            "payer": OWNER,
            "paid_micros": "5000000",
            "used_micros": "1500000",
            "refund_micros": "3500000",
        },
        {"session": "s2", "payer": SITE, "paid_micros": "100", "used_micros": "250", "refund_micros": "0"},
    ]
    dues = [
        {"kind": "expense", "account": SITE, "ref": "bearing/1", "micros": "2000"},
        {"kind": "refund", "account": OWNER, "ref": "s1", "micros": "3500000"},
    ]
    sums = {"expenses_micros": "2000", "uncollected_micros": "150", "net_micros": str(gross - 2_150)}
    document = window.document | sums | {"collected_micros": "1500100", "sessions": sessions, "dues": dues}
    windows = tuple(msgspec.structs.replace(w, document=document) if w is window else w for w in day.windows)
    figures = msgspec.structs.replace(data.figures, expenses_micros="2000", collected_micros="1500100")
    path = tmp_path / "prepaid.html"
    days = (msgspec.structs.replace(day, windows=windows), *data.days[1:])
    path.write_bytes(render(msgspec.structs.replace(data, days=days, figures=figures)))
    browser.open(path)
    browser.ask("document.querySelectorAll('[role=option]')[3].click()")
    text = browser.ask("document.getElementById('detail').innerText")
    for words in (
        "paid 5.000000 USD for session s1", "used 1.500000 USD: 3.500000 USD goes back",
        "used 0.000250 USD: 0.000150 USD stays uncollected", "gets 0.002000 USD for the order bearing/1",
        "gets 3.500000 USD as a refund of session s1", "-0.002000", "-0.000150",
    ):  # fmt: skip
        assert words in text, (words, text)
    tiles = browser.ask("document.getElementById('figures').innerText")
    assert "Owed to suppliers" in tiles and "Paid before by customers" in tiles and "Not collected" not in tiles
    assert browser.told("Runtime.exceptionThrown", "Log.entryAdded") == []
