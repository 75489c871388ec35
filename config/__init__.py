"""What the operator decides: the environment, the typed settings made of it, and how logs look."""
