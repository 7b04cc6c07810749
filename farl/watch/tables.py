"""The two tables of the page; their rows come ready from ``farl.watch.rows``."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from farl.watch.rows import Query

Column = dict[str, Any]

# Vue templates: what a row looks like in the browser.
_RUN = """
<q-tr :props="props" :class="props.row.focus ? 'focus' : ''" :data-run="props.row.id" :title="props.row.id"
      @click="$parent.$emit('focus', props.row.id)">
  <q-td auto-width>
    <input type="checkbox" :checked="props.row.shown" :style="{accentColor: props.row.colour}"
           :aria-label="'draw ' + props.row.method + ' seed ' + props.row.seed"
           @click.stop="$parent.$emit('toggle', props.row.id)">
    <svg width="28" height="8"><line x1="0" y1="4" x2="28" y2="4" stroke-width="2.5" :stroke="props.row.colour"
         :stroke-dasharray="props.row.dash"></line></svg>
  </q-td>
  <q-td>{{ props.row.method }}</q-td>
  <q-td>{{ props.row.task }}</q-td>
  <q-td class="text-right">{{ props.row.seed }}</q-td>
  <q-td><span class="farl-status" :class="props.row.status">{{ props.row.status }}</span>
        <span class="farl-note"> {{ props.row.quiet || props.row.left }}</span></q-td>
  <q-td><span class="farl-track"><i :style="{width: 100 * props.row.done + '%'}"></i></span>{{ props.row.steps }}</q-td>
  <q-td class="text-right">{{ props.row.failures }}</q-td>
  <q-td class="text-right">{{ props.row.episodes }}</q-td>
  <q-td class="text-right">{{ props.row.success }}</q-td>
  <q-td class="text-right">{{ props.row.gated }}</q-td>
  <q-td class="text-right">{{ props.row.return }}</q-td>
</q-tr>
"""
_CLIP = """
<q-td :props="props"><q-btn v-if="props.row.kept" flat dense round size="sm" icon="play_arrow" color="grey-8"
  :aria-label="'see episode ' + props.row.episode" @click="$parent.$emit('clip', props.row.number)"></q-btn></q-td>
"""
_FAILURE = """
<q-td :props="props"><span class="farl-fail">{{ props.row.first_failure }}</span></q-td>
"""


def runs_table() -> Any:
    """All runs, a row each; emits ``toggle`` and ``focus`` with a run's id."""
    columns = [
        _column("shown", "", "left"),
        _column("method", "Method", "left"),
        _column("task", "Task", "left"),
        _column("seed", "Seed"),
        _column("status", "Status", "left"),
        _column("steps", "Agent steps", "left"),
        _column("failures", "Failing"),
        _column("episodes", "Episodes"),
        _column("success", "Success"),
        _column("gated", "Gated"),
        _column("return", "Return"),
    ]
    table = ui.table(columns=columns, rows=[], row_key="id").props("flat dense hide-pagination")
    table.add_slot("body", _RUN)
    table.add_slot("no-data", "<div class='farl-empty'>No run has begun yet; they appear here when they do.</div>")
    return table


def episodes_table(query: Query) -> Any:
    """One page of episodes; emits ``request`` for another page or order, and ``clip`` with an episode's number."""
    columns = [
        _column("episode", "Episode", sort=True),
        _column("end_step", "Ended at step", sort=True),
        _column("outcome", "Outcome", "left"),
        _column("first_failure", "Failure", "left", sort=True),
        _column("cause", "The gate", "left"),
        _column("length", "Length (steps)", sort=True),
        _column("return", "Return", sort=True),
        _column("gated_steps", "Recovery", sort=True),
        _column("cap_hits", "Cap hits", sort=True),
        _column("risk_max", "Largest risk", sort=True),
        _column("seed", "Seed"),
        _column("clip", ""),
    ]
    table = ui.table(columns=columns, rows=[], row_key="number", pagination=pagination(query, 0))
    table.props("flat dense binary-state-sort rows-per-page-label='Episodes on a page:'")
    table.props(":rows-per-page-options='[12,25,50,100]'")
    table.add_slot("body-cell-clip", _CLIP)
    table.add_slot("body-cell-first_failure", _FAILURE)
    return table


def pagination(query: Query, count: int) -> dict[str, Any]:
    """Where the table stands, for Quasar."""
    return {
        "page": query.page,
        "rowsPerPage": query.size,
        "sortBy": query.by,
        "descending": query.descending,
        "rowsNumber": count,
    }


def _column(name: str, label: str, align: str = "right", sort: bool = False) -> Column:
    return {"name": name, "label": label, "field": name, "align": align, "sortable": sort}
