"""What tasks print and log: captured, bounded, and handed to the journal."""
