"""Sets whose members differ: mixtures of class distributions, class prototypes, class-matched features."""
