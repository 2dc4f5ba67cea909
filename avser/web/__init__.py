"""Page and HTTP interface of ``avser serve``; needs the extra ``[web]``.

Uploads are untrusted media, so they are decoded and classified in worker processes that can be
ended: one that hangs or crashes costs its own request only. Page and interface use the same
workers and limits.
"""
