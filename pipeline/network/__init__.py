"""Network access to addresses that senders choose."""
