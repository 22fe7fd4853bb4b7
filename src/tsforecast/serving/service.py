"""`bentoml serve`: the class service around the app of `asgi.py`, so that both give the same bytes."""

from __future__ import annotations

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # before the import; only this value keeps its telemetry off

import bentoml
