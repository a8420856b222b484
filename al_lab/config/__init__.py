"""From a command line to a checked configuration; nothing here imports torch."""
