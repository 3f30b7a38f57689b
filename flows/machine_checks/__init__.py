"""Checks before a launch that only the worker's machine can do: hardware, hub, credentials."""
