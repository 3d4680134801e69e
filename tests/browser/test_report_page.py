"""The report in a real browser: it checks itself, an edit turns it red; by keyboard, on a phone, in print."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.cli.options import data_folder
from deploy.report.figures import Wish
from deploy.report.report import ReportData, gather, render
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
    """One micro more in a posted sum, one reading changed: the page itself names both."""
    post = data.posts[1]
    kept = post.accounts[OWNER]
    more = msgspec.structs.replace(kept, cumulative=str(int(kept.cumulative) + 1))
    posts = (data.posts[0], msgspec.structs.replace(post, accounts=post.accounts | {OWNER: more}))
    day = data.days[0]
    items = tuple(
        msgspec.structs.replace(item, value=item.value + 1) if at == 5 else item for at, item in enumerate(day.items)
    )
    days = (msgspec.structs.replace(day, items=items), *data.days[1:])
    path = tmp_path / "false.html"
    path.write_bytes(render(msgspec.structs.replace(data, posts=posts, days=days)))
    browser.open(path)
    text = browser.ask(f"{VERDICT}.innerText")
    assert browser.ask(f"{VERDICT}.dataset.state") == "bad"
    assert f"the sum of {OWNER} in post 2 has no proof" in text
    assert f"{day.machine} at 01:15" in text and "is not what its readings come to" in text
