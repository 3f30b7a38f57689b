"""The API of the installed Oumi: read from its source, kept in a file, searched."""
