"""Prefect flows that run Oumi jobs; loaded by a worker."""
