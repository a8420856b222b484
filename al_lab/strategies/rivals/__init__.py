"""Detection strategies that MGRAL and AL-SSL are compared with, and their shared parts."""
