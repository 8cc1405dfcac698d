"""Tests of ``understudy.sockets``."""
