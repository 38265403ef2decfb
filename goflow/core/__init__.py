"""The pure core: what happened, what may happen next. No clock, no I/O, no asyncio."""
