"""Pages of the robots package served in processes of their own, which are ended whatever state they are in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

SERVE = """
import sys
from pathlib import Path
from robots.{module} import {config}, main
main(Path(sys.argv[1]), {config}())
"""


@contextmanager
def served(
    run: Path, module: str = "watch.server", config: str = "WatchConfig"
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page's address, and its process, which is ended afterwards whatever state it is in."""
    command = [sys.executable, "-c", SERVE.format(module=module, config=config), str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert " at http://127.0.0.1:" in said, said
        yield said.split(" at ")[1].split()[0], process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()
        process.stdout.close()


def fetched(address: str, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Status and content."""
    port = int(address.rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder with its times."""
    found = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in found}
