"""Where facts are kept. `base` and `logs` are the contract; the siblings implement it."""
