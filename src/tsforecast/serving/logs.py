"""The log of a server: one JSON object a line."""

from __future__ import annotations

import logging
import sys
import time

import orjson


class _Json(logging.Formatter):
    """One JSON object a line."""

    _usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, what happened, and whatever came with it."""
        extra = {key: value for key, value in vars(record).items() if key not in self._usual}
        if record.exc_info:
            extra["trace"] = self.formatException(record.exc_info)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": stamp, "level": record.levelname, "event": record.getMessage(), **extra}
        return orjson.dumps(line, default=str).decode()


def log_as_json(name: str = "tsforecast", *filters: logging.Filter) -> None:
    """What a package logs goes to stderr, a JSON object a line, as far as the filters let it."""
    root = logging.getLogger(name)
    if not any(isinstance(handler.formatter, _Json) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Json())
        handler.filters.extend(filters)
        root.addHandler(handler)
    root.propagate = False
    root.setLevel(logging.INFO)
