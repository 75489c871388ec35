"""The eight checks, one module each: `examine(machine)` returns findings whatever the state of the machine."""
