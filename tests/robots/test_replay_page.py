"""The page that steps through a recorded session, in a headless browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_session import session
from served_pages import fetched, served, tree

from experiments import headless_browser as headless
from experiments.headless_browser import wait_for

pytest.importorskip("nicegui", reason="the extra 'watch' is not installed")
# Not an omission: what the page shows is tested without a browser in test_replay.py.
if lacking := headless.missing():
    pytest.skip(lacking, allow_module_level=True)

PICTURE = "document.querySelector('.rr img')"


def test_a_session_is_stepped_through(tmp_path: Path) -> None:
    written = session(tmp_path / "run", count=2)
    before = tree(written.run)
    with (
        served(written.run, "replay.player", "ReplayConfig") as (address, _),
        headless.browser(1024, 768) as driver,
    ):
        driver.get(address)
        wait_for(driver, f"{PICTURE}.naturalWidth === 1008 && window.did_handshake")
        assert "/frame/2/0.jpg" in driver.execute_script(f"return {PICTURE}.src")
        press = "document.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', code: '%s', bubbles: true}))"
        driver.execute_script("document.querySelector('[data-act=on]').click()")
        wait_for(driver, f"{PICTURE}.src.endsWith('/frame/2/1.jpg')")
        driver.execute_script(press % ("PageDown", "PageDown"))
        wait_for(driver, f"{PICTURE}.src.endsWith('/frame/2/11.jpg')")
        driver.execute_script("document.querySelector('[data-act=back]').click()")
        wait_for(driver, f"{PICTURE}.src.endsWith('/frame/2/10.jpg')")
        driver.execute_script(press % ("p", "KeyP"))
        wait_for(driver, f"{PICTURE}.src.endsWith('/frame/1/0.jpg') && {PICTURE}.naturalWidth === 1008")
        driver.execute_script("document.querySelector('[data-act=play]').click()")
        wait_for(driver, f"Number({PICTURE}.src.split('/').pop().split('.')[0]) > 3")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 1024
        assert driver.get_log("browser") == []
        assert fetched(address, "/frame/9/0.jpg")[0] == 404
        assert fetched(address, "/frame/1/5000.jpg")[0] == 404
        assert fetched(address, "/", "elsewhere.example")[0] == 400
    assert tree(written.run) == before
