"""Templates: text with values that are filled in just before an attempt.

Only `sandbox` and `compiled` import Jinja2, and only when a template is defined.
"""
