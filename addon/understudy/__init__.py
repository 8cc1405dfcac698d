"""understudy: a mitmproxy addon that lets another credential or model answer when the first one cannot."""

__version__ = "0.1.0"
