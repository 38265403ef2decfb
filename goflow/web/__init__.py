"""The HTTP server: the public API, the event stream and the dashboard."""
