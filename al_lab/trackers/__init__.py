"""Dashboards that mirror a run folder."""
