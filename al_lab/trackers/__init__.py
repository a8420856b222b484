"""dashboards that show a run folder."""
