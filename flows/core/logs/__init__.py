"""Pages, lines and search of a log file."""
