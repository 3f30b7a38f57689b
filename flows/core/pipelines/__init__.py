"""Pipelines as they are written, checked and resolved: nothing here needs Prefect or Oumi."""
