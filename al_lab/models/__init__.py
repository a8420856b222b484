"""Networks and what turns their output into boxes."""
