"""Oumi configs: reading, checking and planning, without importing Oumi."""
