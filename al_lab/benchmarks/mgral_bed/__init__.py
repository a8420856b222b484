"""MGRAL link by link, in minutes: frozen features, a small head, and the product's own table, predictors and agent."""
