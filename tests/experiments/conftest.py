"""Repeatable secrets: a figure that passes once passes in each run."""

from tests.repeatable import repeatable_secrets  # noqa: F401
