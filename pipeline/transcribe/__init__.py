"""Room of the stage."""
