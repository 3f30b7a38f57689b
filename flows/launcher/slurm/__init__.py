"""Slurm clusters over ssh."""
