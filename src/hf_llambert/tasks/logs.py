"""Loggers that show control characters as signs, so that text of a server or a file cannot steer the terminal."""

from __future__ import annotations

import logging

from hf_llambert.tasks.texts import visible


class _Shown(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = visible(record.getMessage()), ()
        return True


class VisibleFormatter(logging.Formatter):
    """Shows control characters as signs in messages and tracebacks of every library."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return visible(super().format(record))


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, whose messages show control characters as signs wherever they go."""
    logger = logging.getLogger(name)
    if not any(isinstance(one, _Shown) for one in logger.filters):
        logger.addFilter(_Shown())
    return logger
