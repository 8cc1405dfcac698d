"""The real program between a scriptable upstream and raw clients, all on loopback."""
