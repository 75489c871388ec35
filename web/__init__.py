"""The HTTP API and the dashboard. They send jobs and read their results; the workers do the work."""
