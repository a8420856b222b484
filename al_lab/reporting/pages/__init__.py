"""The report of one run, and of many."""
