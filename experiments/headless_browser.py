"""A headless Chromium on a page that `farl watch` serves: to test the page, to measure it, to take pictures of it.

python -m experiments.headless_browser PICTURE.png RUN_OR_STUDY [...] [--width 1400] [--height 1860] [--clips 2]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

CURVES = ("failures", "success", "gated", "choice")
_LINE = re.compile(r" at (http://\S+) ")


def missing() -> str:
    """What a headless browser lacks on this machine, empty if nothing."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install -c constraints.txt -e '.[dev]'"
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found: apt-get install chromium chromium-driver" if absent else ""


@contextmanager
def browser(width: int = 1400, height: int = 900) -> Iterator[Any]:
    """A selenium driver whose page is ``width`` by ``height`` pixels, with an empty cache."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, width: int, height: int) -> None:
    """Make the page so many pixels large, whatever the window's frame takes."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@contextmanager
def served(*folders: Path, cache: Path) -> Iterator[str]:
    """The address of `farl watch` on these folders, in a process of its own that keeps its clips in ``cache``."""
    command = [sys.executable, "-m", "farl", "watch", *map(str, folders), "--no-open"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    try:
        found = _LINE.search(said)
        if found is None:
            raise RuntimeError(f"farl watch did not start: {said}{process.stdout.read()}")
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.stdout.close()


def wait_for(driver: Any, script: str, limit_s: float = 60.0) -> Any:
    """What the JavaScript expression gives as soon as it gives something; raises TimeoutError."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if value := driver.execute_script(f"return {script}"):
            return value
        time.sleep(0.05)
    raise TimeoutError(f"not within {limit_s:.0f} s: {script}")


def chart_series(driver: Any, name: str) -> list[dict[str, Any]]:
    """Names and data of the lines of a chart, as ECharts holds them."""
    element = f"document.querySelector('[data-chart={name}]')"
    option = f"getElement(Number({element}.id.slice(1))).chart.getOption()"
    found = driver.execute_script(f"return {option}.series.map(one => ({{name: one.name, data: one.data}}))")
    return list(found)


def run_cells(driver: Any, run: Path) -> list[str]:
    """What the table of runs says of one run."""
    cells = f"""[...document.querySelectorAll('tr[data-run="{run}"] td')].map(cell => cell.innerText.trim())"""
    return list(driver.execute_script(f"return {cells}"))


def retry(look: Callable[[], Any], limit_s: float = 60.0) -> Any:
    """The first true value of ``look``, asked again and again; raises TimeoutError."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if value := look():
            return value
        time.sleep(0.1)
    raise TimeoutError(f"not within {limit_s:.0f} s")


# ---------------------------------------------------------------- pictures


def photograph(picture: Path, folders: Sequence[Path], size: tuple[int, int], clips: int) -> None:
    """Write a picture of the page, ``clips`` of the newest failures drawn."""
    cards = "[...document.querySelectorAll('.farl-clip')]"
    with (
        tempfile.TemporaryDirectory() as cache,
        served(*folders, cache=Path(cache)) as address,
        browser(*size) as driver,
    ):
        driver.get(address)
        wait_for(driver, "document.querySelectorAll('[data-chart] canvas').length >= 6 && window.did_handshake")
        for card in range(clips):
            wait_for(driver, f"{cards}[{card}].querySelector('button')")
            driver.execute_script(f"{cards}[{card}].querySelector('button').click()")
        playing = f"{cards}.filter(card => card.querySelector('video')?.currentTime > 2).length === {clips}"
        wait_for(driver, playing, 60 + 300 * clips)
        driver.execute_script(
            "document.querySelectorAll('video').forEach(video => {video.pause(); video.controls = false})"
        )
        time.sleep(1)
        driver.save_screenshot(str(picture))


def _shrink(picture: Path, width: int) -> None:
    with Image.open(picture) as image:
        small = image.convert("RGB").resize(
            (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
        )
    small.quantize(256, kmeans=3).save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1860)
    parser.add_argument("--clips", type=int, default=2)
    given = parser.parse_args()
    if lacking := missing():
        raise SystemExit(lacking)
    photograph(given.picture, given.folders, (given.width, given.height), given.clips)
    _shrink(given.picture, min(given.width, 1000))


if __name__ == "__main__":
    main()
