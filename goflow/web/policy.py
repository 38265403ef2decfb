"""The Content-Security-Policy of the bundled dashboard and of custom ones."""

import re

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)

# For a custom dashboard: its pages may contain inline scripts and styles. Resources of other sites
# are forbidden, as for the bundled dashboard.
OWN_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self'; font-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self' blob:; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def check_policy(policy: object) -> str:
    """A Content-Security-Policy without surrounding spaces. Raises `ValueError`."""
    if not isinstance(policy, str) or not re.fullmatch(r"[ -~]+", policy) or not policy.strip():
        raise ValueError(
            f"ui_policy must be a Content-Security-Policy in one line of ASCII, not {policy!r}"
        )
    return policy.strip()
