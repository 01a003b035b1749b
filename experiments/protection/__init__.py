"""Protections of a model: the job, locks, evaluation, what is shipped."""
