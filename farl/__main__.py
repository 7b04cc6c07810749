"""``python -m farl`` is the ``farl`` program."""

from farl.cli import main

raise SystemExit(main())
