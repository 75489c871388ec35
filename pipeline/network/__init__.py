"""Network access to hosts that senders choose."""
