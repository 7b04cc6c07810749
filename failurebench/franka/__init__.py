"""Three tasks for a Franka arm. The definitions import no simulator; the robosuite twin, in ``panda``, ``twin`` and ``env``, does.

A definition (``push_wall``, ``disturbed_push``, ``soccer``) says what a task is on a snapshot of the table: spaces, starts, reward,
failure, success, scripted behaviour. Whoever has such snapshots, a simulator or cameras, can play it.
"""
