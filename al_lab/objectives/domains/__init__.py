"""Training across domains beyond cross-entropies: what shortens the way from the source to the target."""
