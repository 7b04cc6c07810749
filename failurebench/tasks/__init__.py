"""The tasks, one short file each."""
