"""A Franka arm, its cameras and its operator, behind the Gymnasium interface of the Franka tasks.

Importing it registers ``Robots/FrankaFragilePushWall-v0``, ``Robots/FrankaDisturbedPush-v0`` and ``Robots/FrankaBoundedSoccer-v0``.
"""

import gymnasium


def _register() -> None:
    for name in ("FrankaFragilePushWall", "FrankaDisturbedPush", "FrankaBoundedSoccer"):
        gymnasium.register(f"Robots/{name}-v0", entry_point="robots.making:make", kwargs={"task": name})


_register()
