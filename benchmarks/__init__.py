"""What is fast, measured: a script per question. They print figures and never judge a run."""
