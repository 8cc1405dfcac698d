"""The programs behind scripts/bench-rules, scripts/corpus and scripts/rules-table."""
