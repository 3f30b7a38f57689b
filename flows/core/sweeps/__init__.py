"""Sweeps as they are written, checked and searched: nothing here needs Prefect or Oumi."""
