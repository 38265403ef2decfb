"""Where facts are kept. `base` is the contract; the siblings implement it."""
