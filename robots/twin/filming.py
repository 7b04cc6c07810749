"""The process behind a twin's camera: asks the twin where everything is, draws it, and hands over picture after picture."""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time

from robots.errors import RobotError
from robots.twin.child import orphaned
from robots.twin.configuration import TwinConfig
from robots.twin.picture import Painter, TwinCameraConfig
from robots.twin.side import SideChannel

HEADER = struct.Struct("<dII")
"""of a picture: ``time.monotonic()`` it shows, width, height; colour and depth follow"""

ASK = b"?"
"""what is sent for the next picture: whoever is slow gets fewer, not older ones"""

LOOK_S = 0.1
"""between two looks at whether the parent is still there"""


def serve(listener: socket.socket, painter: Painter, channel: SideChannel) -> None:
    """Pictures for one reader after the other, until the parent is gone."""
    period, due = 1.0 / painter.camera.rate_hz, time.monotonic()
    listener.settimeout(LOOK_S)
    reader: socket.socket | None = None
    while not orphaned():
        try:
            if reader is None:
                reader, _ = listener.accept()
                reader.settimeout(LOOK_S)
                reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if reader.recv(1) != ASK:
                raise ConnectionError
            time.sleep(max(due - time.monotonic(), 0.0))
            due = max(due + period, time.monotonic())
            reader.settimeout(None)
            reader.sendall(_picture(painter, channel))
            reader.settimeout(LOOK_S)
        except TimeoutError:
            continue
        except OSError:
            if reader is not None:
                reader.close()
            reader = None


def _picture(painter: Painter, channel: SideChannel) -> bytes:
    """Of now, or of when the twin answers again."""
    while not orphaned():
        try:
            pose = channel.pose()
        except RobotError:
            time.sleep(LOOK_S)
            continue
        color, depth = painter.picture(pose.qpos, pose.mocap, pose.layout)
        height, width = depth.shape
        return HEADER.pack(pose.time, width, height) + color.tobytes() + depth.tobytes()
    raise ConnectionError("the parent is gone")


def main() -> None:
    """Film the twin that the first line of standard input names; says at which port, or what is wrong, in a line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started this
    told = json.loads(sys.stdin.readline())
    channel = SideChannel(told["host"], answer_s=0.2)
    try:
        twin = TwinConfig.from_json(channel.ask("config"))
        painter = Painter(twin, TwinCameraConfig.from_json(told["camera"]))
    except (RobotError, RuntimeError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    serve(listener, painter, channel)
    painter.close()


if __name__ == "__main__":
    main()
