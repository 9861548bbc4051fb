"""Runs ministack over plain HTTP, as if behind a proxy that terminates TLS.

The bucket policy of template.yaml denies plain HTTP, and a browser does not trust a certificate made on this machine.
"""

from ministack import app as ministack

app = ministack.app


async def behind_tls(scope, receive, send):
    await app({**scope, "scheme": "https"}, receive, send)


ministack.app = behind_tls
ministack.main()
