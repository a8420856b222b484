"""The sections of a leaderboard."""
