"""What happens as one JSON object a line, for whoever collects logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime"}  # what every record has; the rest is `extra`


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, what a record has beside them, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in USUAL},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def log_as_json() -> None:
    """From now on, what this process logs goes to stderr so."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
