"""What the sections of the page are made of."""

from __future__ import annotations

from typing import Any

from nicegui import ui


def card() -> Any:
    """A white field."""
    return ui.element("section").classes("farl-card")


def head() -> Any:
    """The line at the top of a card."""
    return ui.element("div").classes("farl-head")


def heading(text: str) -> None:
    """What a card shows, with its unit."""
    ui.html(text, tag="h2", sanitize=False)


def chart(options: dict[str, Any], name: str, size: str = "farl-chart") -> Any:
    """An ECharts chart that scripts find by its name."""
    return ui.echart(options).classes(size).props(f'data-chart="{name}"')
