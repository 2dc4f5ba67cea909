"""Page and HTTP interface of ``avser serve``; needs the extra ``[web]``.

Uploads are untrusted media, so they are decoded and classified in worker processes: one that hangs
or crashes fails its own request only. Page and interface share workers and limits.
"""
