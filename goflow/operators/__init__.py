"""What a task does. `base` is the contract; the siblings implement it."""
