"""Artifacts: results that are no JSON, and files that tasks make.

They are files beside the store, addressed by their content. `base` is the contract; `folder` and
`bucket` implement it; `formats` writes and reads results.
"""
