"""The dashboard: the stages as they are now, and every message with its transcript, recording and summary."""

from web.dashboard.routes import router

__all__ = ["router"]
