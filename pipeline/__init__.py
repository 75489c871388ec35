"""The work itself: from a voice message to its transcript and summary. No Dramatiq in here."""
