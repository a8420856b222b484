"""What can be said of a selection before anybody labels it, and before anything is trained."""
