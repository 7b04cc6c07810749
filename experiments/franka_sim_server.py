"""An arm behind a controller that enforces the limits of a real one on motion and communication, on loopback.

    .franka-sim-venv/bin/python experiments/franka_sim_server.py [HOST]

Runs in the environment that scripts/franka_sim_env makes, and imports nothing of this project. Ends with its standard input.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("FR3_MJCF", str(Path(sys.prefix) / "fr3.xml"))
    from franka_sim.franka_sim_server import FrankaSimServer

    logging.disable(logging.INFO)
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    server = FrankaSimServer(host=host, enforce_motion_limits=True, enforce_comm_constraints=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print("starting", flush=True)
    server.start()
