"""The benchmark: what understudy costs on top of a bare mitmproxy, measured side by side in one run.

Two mitmdump processes run on loopback, one bare and one with the addon, both in reverse mode before the same upstreams.
Every point is measured in short rounds that take turns (bare, understudy, bare, understudy, ...), and what counts is
the median of the ratios of these pairs: a busy machine then slows both halves of a pair.
"""
