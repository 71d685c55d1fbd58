"""What happens, as it happens: one stream of server-sent events for whoever wants to watch."""
