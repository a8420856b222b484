"""Which runs may be compared, and what may be said of them."""
