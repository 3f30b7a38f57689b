"""The launcher port: the only place that imports Oumi's launcher or SkyPilot, and the local cloud."""
