"""A week of calls over accounts with windows, through the real selection code; nothing is sent anywhere."""
