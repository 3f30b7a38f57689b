"""The launcher port and the local cloud: the only place that imports Oumi's launcher."""
