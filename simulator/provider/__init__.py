"""A sandbox payment provider: the other side of the wire, as a process with a store of its own.

Knows nothing of Darkstore.  It takes tokens, moves no real money, keeps every payment in SQLite,
answers over REST, and tells a webhook address what happened, at least once and in any order.

::

    wire.py      JSON in and out, refusals as HTTP     webhooks.py  signing and delivery
    app.py       routes, authentication, faults        faults.py    tokens and control settings
    engine.py    rules, one transaction an operation   store.py     SQLite
    model.py     payments, operations, answers

``engine`` is free of any wire format, so that a second one (another provider's paths, fields and
signatures) is a second ``wire`` module beside the first.
"""
