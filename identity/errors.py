"""Why somebody is not let in.

::

    Unauthenticated
    ├── CredentialsWrong   e-mail and password do not belong together
    ├── TokenInvalid       not a token of ours, or not for this use
    ├── TokenExpired       was a good token; refresh it or log in
    └── SessionRevoked     logged out, password changed, or a refresh token was used twice
    Conflict
    └── EmailTaken         somebody registered with this address
"""

from __future__ import annotations

from kit.errors import Conflict, Unauthenticated


class CredentialsWrong(Unauthenticated):
    code = "credentials_wrong"
    title = "E-mail or password is wrong"


class TokenInvalid(Unauthenticated):
    code = "token_invalid"
    title = "This token is not valid"


class TokenExpired(Unauthenticated):
    code = "token_expired"
    title = "This token has expired"


class SessionRevoked(Unauthenticated):
    code = "session_revoked"
    title = "This session has ended"


class EmailTaken(Conflict):
    code = "email_taken"
    title = "This e-mail address is in use"
