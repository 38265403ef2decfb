"""What browsers let pages do: the Content-Security-Policy of ours, and of other dashboards."""

import re

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)

# For a folder of one's own, whose pages may have scripts and styles in them. What comes from
# elsewhere is as forbidden as it is to ours, so that no other site gets into the page.
OWN_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self'; font-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self' blob:; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def check_policy(policy: object) -> str:
    """A Content-Security-Policy as a header can have it. Raises `ValueError`."""
    if not isinstance(policy, str) or not re.fullmatch(r"[ -~]+", policy) or not policy.strip():
        raise ValueError(
            f"ui_policy must be a Content-Security-Policy of ASCII in one line, not {policy!r}"
        )
    return policy.strip()
