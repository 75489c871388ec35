"""The live page: what the pipeline does right now, and every message with its words, its sound and its summary."""

from web.page.routes import router

__all__ = ["router"]
