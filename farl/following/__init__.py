"""Run directories followed while they grow: read only, only what is new, and knowing nothing of the page that shows them."""
