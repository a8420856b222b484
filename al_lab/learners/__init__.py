"""Network + objective + optimizer."""
