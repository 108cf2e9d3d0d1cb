"""Close codes (protocol section 5) and what a client does with them. Pure."""

DONE = 1000
NO_CODE = 1005
CUT = 1006
TOKEN_EXPIRED = 4001
UNAUTHENTICATED = 4500


def reconnects(code: int) -> bool:
    """Whether to reconnect and resume after this code, the server's or a proxy's own.

    4000-4499 do, as do 1001, 1006, 1011, 1012 and 1013; 4500-4999 do not, nor do codes that blame
    this client.
    """
    blames_us = code in (DONE, 1002, 1003) or 1007 <= code <= 1010
    return not blames_us and not 4500 <= code <= 4999
