"""The rows of the look-up table: how many and of what kind, which images, and what came of them."""
