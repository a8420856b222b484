"""Commands that write pages: of runs, and of many of them together."""
