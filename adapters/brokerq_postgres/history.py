"""A job's history as text; see `brokerq.sql.history`."""

from __future__ import annotations

from brokerq.sql import history

step = history.step
step_note = history.step_note
trim = history.trim
