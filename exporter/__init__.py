"""kbit: one plan, two runtimes."""
