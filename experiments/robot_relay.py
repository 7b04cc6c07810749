"""A cable to pull: relays a robot's protocol between a client and a controller on loopback, until it is told to stop.

    python -m experiments.robot_relay LISTEN_HOST CONTROLLER_HOST

Each line on the standard input changes what it does: ``cut`` drops everything that passes, ``mend`` lets it pass again.
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
from types import TracebackType

PORT = 1337
HEADER = struct.Struct("<III")
"""command, its number, bytes of the whole message"""

CONNECT = 0
"""the command that says where the client listens for states"""


class Relay:
    """The relay in a process of its own.

    Args:
        host: the address that clients are to use.
        controller: the address that it passes everything on to.
    """

    def __init__(self, host: str, controller: str) -> None:
        self.host = host
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.robot_relay", host, controller],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def cut(self) -> None:
        """Nothing passes any more; no connection is closed by that."""
        self._say("cut")

    def mend(self) -> None:
        """Everything passes again."""
        self._say("mend")

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()


class Passage:
    """One client's TCP connection and its UDP states and commands."""

    def __init__(self, client: socket.socket, listen: str, controller: str) -> None:
        self.client = client
        self.controller = socket.create_connection((controller, PORT))
        for tcp in (self.client, self.controller):
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.to_client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.to_client.bind((listen, 0))
        self.to_controller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.to_controller.bind(("0.0.0.0", 0))
        self.client_udp: tuple[str, int] | None = None
        self.controller_udp: tuple[str, int] | None = None
        self.sockets = (self.client, self.controller, self.to_client, self.to_controller)

    def close(self) -> None:
        for each in self.sockets:
            each.close()

    def open_to(self, cut: bool) -> tuple[socket.socket, ...]:
        """What to read from: a cut cable loses datagrams, and what TCP carries waits to be sent again."""
        return self.sockets[2:] if cut else self.sockets

    def pass_on(self, ready: socket.socket, cut: bool) -> bool:
        """Move what has arrived; False at the end of the connection."""
        if ready is self.to_controller:
            data, self.controller_udp = ready.recvfrom(65536)
            if self.client_udp is not None and not cut:
                self.to_client.sendto(data, self.client_udp)
            return True
        if ready is self.to_client:
            data, _ = ready.recvfrom(65536)
            if self.controller_udp is not None and not cut:
                self.to_controller.sendto(data, self.controller_udp)
            return True
        try:
            data = ready.recv(65536)
        except OSError:
            return False
        if not data:
            return False
        other = self.controller if ready is self.client else self.client
        other.sendall(self._redirected(data) if ready is self.client else data)
        return True

    def _redirected(self, data: bytes) -> bytes:
        """A Connect request asks for states at this relay's port instead of the client's."""
        if len(data) < HEADER.size + 4 or HEADER.unpack_from(data)[0] != CONNECT or self.client_udp is not None:
            return data
        version, port = struct.unpack_from("<HH", data, HEADER.size)
        self.client_udp = (self.client.getpeername()[0], port)
        ours = struct.pack("<HH", version, self.to_controller.getsockname()[1])
        return data[: HEADER.size] + ours + data[HEADER.size + 4 :]


def serve(listen: str, controller: str) -> None:
    """Until the standard input ends."""
    server = socket.create_server((listen, PORT))
    print("ready", flush=True)
    passages: list[Passage] = []
    cut = False
    while True:
        listening = [] if cut else [server]
        waiting = [sys.stdin, *listening, *(each for passage in passages for each in passage.open_to(cut))]
        for ready in select.select(waiting, [], [])[0]:
            if ready is sys.stdin:
                word = sys.stdin.readline().strip()
                if not word:
                    return
                cut = word == "cut"
            elif ready is server:
                client = server.accept()[0]
                try:
                    passages.append(Passage(client, listen, controller))
                except ConnectionRefusedError:
                    client.close()  # as the controller that is not there would do
            else:
                passage = next((each for each in passages if ready in each.sockets), None)
                if passage is not None and not passage.pass_on(ready, cut):
                    passage.close()
                    passages.remove(passage)


if __name__ == "__main__":
    serve(*sys.argv[1:3])
