"""Labels from people: what is asked, and what comes back."""
