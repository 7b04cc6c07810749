"""``python -m robots.twin``: the same as ``farl robot twin serve``."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from robots.errors import RobotError
from robots.twin.serve import ServeConfig, main

parser = argparse.ArgumentParser(prog="python -m robots.twin", description=ServeConfig.__doc__)
for field in dataclasses.fields(ServeConfig):
    parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
try:
    main(ServeConfig(**vars(parser.parse_args())))
except RobotError as error:
    sys.exit(str(error))
