"""The eight checks, a module each: `examine(box)` returns what it found and never raises for what a machine may do."""
