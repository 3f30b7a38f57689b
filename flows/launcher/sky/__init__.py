"""Clouds and clusters behind SkyPilot's API server."""
