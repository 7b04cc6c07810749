"""The operator's page in a real headless browser, on sessions that grow, stop and fall silent."""

from __future__ import annotations

import dataclasses
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded_episodes import TASKS, episode
from recorded_session import CAMERA, Written, session
from served_pages import fetched, served, tree

from experiments import headless_browser as headless
from experiments.headless_browser import retry, wait_for
from robots.errors import RobotError
from robots.session import words
from robots.watch.facts import Session
from robots.watch.server import WatchConfig, main
from robots.watch.sheet import sheet

pytest.importorskip("nicegui", reason="the extra 'watch' is not installed")
# Not an omission: what the page shows is tested without a browser in test_watch_session.py.
if lacking := headless.missing():
    pytest.skip(lacking, allow_module_level=True)

WORD = "document.querySelector('.rw-banner .word')?.innerText"
PICTURE = "document.querySelector('.rw-picture img')"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with headless.browser(1024, 768) as driver:
        yield driver


def opened(driver: Any, address: str) -> None:
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get(address)
    wait_for(driver, f"{WORD} && window.did_handshake && document.querySelector('[data-fact=written]')")


def fact(driver: Any, key: str, part: str = "value") -> str:
    return str(driver.execute_script(f"return document.querySelector('[data-fact={key}] .{part}')?.innerText ?? ''"))


def beating(written: Written, records: list[Any]) -> None:
    """Steps as if they had just been made."""
    now = time.time()
    written.steps([dataclasses.replace(record, time=now) for record in records], pictures=True)


def test_a_session_is_followed_as_it_grows_stops_and_asks(driver: Any, tmp_path: Path) -> None:
    written = session(tmp_path / "run", "FrankaBoundedSoccer", count=4)
    written.say(words.NEEDS_RESET, "put the ball back", time.time())
    with served(written.run) as (address, _):
        opened(driver, address)
        assert driver.execute_script(f"return {WORD}") == "NEEDS RESET"
        assert "Put the ball back" in driver.execute_script("return document.querySelector('.rw-banner').innerText")
        known = Session(written.run)
        known.look()
        for line in sheet(known.facts(time.time())):
            assert fact(driver, line.key) == line.value or line.key == "written"
            assert fact(driver, line.key, "label") == line.label
        written.say("reset_done", at=time.time())
        wait_for(driver, f"{WORD} === 'RESETTING'")
        written.begin(5)
        records = list(episode(written.task, 5, begin=time.time()))
        recovering = next(place for place, record in enumerate(records) if record.source == "recovery")
        beating(written, records[:recovering])
        wait_for(driver, f"{WORD} === 'RUNNING' && document.querySelector('.rw-picture.task')")
        retry(lambda: fact(driver, "episode", "detail") == f"step {recovering}")
        shown = wait_for(driver, f"{PICTURE}.naturalWidth > 0 && {PICTURE}.src")
        assert f"/picture/{CAMERA}?" in shown
        beating(written, records[recovering : recovering + 1])
        wait_for(driver, f"document.querySelector('.rw-picture.recovery') && {PICTURE}.src !== '{shown}'")
        assert fact(driver, "risk") == f"{records[recovering].risk:.2f}"
        lines = driver.execute_script("return document.querySelectorAll('.rw-curve polyline.risk').length")
        assert lines == 1
        wait_for(driver, f"{WORD} === 'NOT WRITING'", 20)  # nothing came for two seconds
        wait_for(driver, "document.querySelector('.rw-acts').innerText.startsWith('last picture, ')")
        assert not driver.execute_script("return document.querySelector('.rw-picture.recovery')")
        assert "hangs or was killed" in driver.execute_script(
            "return document.querySelector('.rw-banner .advice').innerText"
        )
        beating(written, records[recovering + 1 : recovering + 2])
        wait_for(driver, f"{WORD} === 'RUNNING'")
        assert driver.get_log("browser") == []


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Written, str, subprocess.Popen[str]]]:
    """A session that waits for a person, its page's address and process."""
    written = session(tmp_path_factory.mktemp("asking") / "run", "FrankaFragilePushWall", count=2)
    asked = "put the object where episodes begin, everything else back, and step away"
    written.say(words.NEEDS_RESET, asked, time.time())
    before = tree(written.run)
    with served(written.run) as (address, process):
        yield written, address, process
    assert tree(written.run) == before  # a page never writes into a session


def test_the_picture_is_the_newest_and_the_table_can_be_had_instead(driver: Any, asking: Any) -> None:
    written, address, _ = asking
    opened(driver, address)
    wait_for(driver, f"{PICTURE}.naturalWidth === 320")  # the camera's
    images = sorted((written.folder / "images" / "2").glob("*.jpg"), key=lambda path: int(path.name.split("-")[0]))
    assert fetched(address, f"/picture/{CAMERA}") == (200, images[-1].read_bytes())
    driver.execute_script("document.querySelectorAll('.rw-views button')[1].click()")
    wait_for(driver, f"{PICTURE}.naturalWidth === 640 && {PICTURE}.src.includes('/picture/table')")


def test_nothing_but_pictures_is_given_and_only_to_this_machine(asking: Any) -> None:
    _, address, _ = asking
    assert fetched(address, "/picture/no-such-camera")[0] == 404
    assert b"config_hash" not in fetched(address, "/picture/..%2Fmanifest.json")[1]
    assert b"config_hash" not in fetched(address, "/picture/../manifest.json")[1]
    assert fetched(address, "/")[0] == 200
    assert fetched(address, "/", "localhost")[0] == 200
    assert fetched(address, "/", "elsewhere.example")[0] == 400


@pytest.mark.parametrize(("width", "height"), [(1024, 768), (768, 1024), (390, 844)])
def test_the_page_fits_a_tablet_and_needs_nothing_from_elsewhere(
    driver: Any, asking: Any, width: int, height: int
) -> None:
    _, address, _ = asking
    headless.resize(driver, width, height)
    opened(driver, address)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    for part in (".rw-banner .word", ".rw-banner .advice", ".rw-picture img"):
        box = driver.execute_script(f"return document.querySelector('{part}').getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < box["bottom"] <= height, part
        assert 0 <= box["left"] < box["right"] <= width, part
    if width > 700:  # a tablet: every fact without scrolling
        bottoms = "[...document.querySelectorAll('.rw-line')].map(line => line.getBoundingClientRect().bottom)"
        assert driver.execute_script(f"return Math.max(...{bottoms})") <= height
    asked = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in asked if not name.startswith((address, "data:"))] == []
    assert driver.get_log("browser") == []
    headless.resize(driver, 1024, 768)


def test_a_page_whose_server_is_silent_says_that_it_is_old(driver: Any, asking: Any) -> None:
    _, address, process = asking
    dead = "(getComputedStyle(document.querySelector('.rw-dead')).display === 'block')"
    opened(driver, address)
    time.sleep(1.0)
    assert not driver.execute_script(f"return {dead}")
    process.send_signal(signal.SIGSTOP)
    try:
        wait_for(driver, dead, 20)
    finally:
        process.send_signal(signal.SIGCONT)
    wait_for(driver, f"!{dead}", 20)


def test_a_taken_port_gets_one_message(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RobotError, match="choose another --port"):
            main(written.run, WatchConfig(port=taken.getsockname()[1]))
