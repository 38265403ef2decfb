"""The pure core: facts and decisions. No clock, no I/O, no asyncio."""
