"""Scripted behaviour for the Franka tasks; it sees observations only, and needs no simulator."""
