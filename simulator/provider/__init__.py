"""A sandbox payment provider: the other side of the wire, as a process with a store of its own.

Knows nothing of Darkstore.  It takes tokens, moves no real money, keeps every payment in SQLite,
answers over REST, and tells a webhook address what happened, at least once and in any order.

::

    app.py       own wire and control orders           host.py      what every wire stands on
    wire.py      the own wire's JSON                   wires.py     which further wires there are
    wire_stripe.py, wire_razorpay.py, and what they    ports.py     a port a wire, to be closed
    read and show: wire_stripe_objects.py, …
    engine.py    rules, one transaction an operation   webhooks.py  delivery, signed by the wire
    model.py     payments, operations, answers         faults.py    tokens and control settings
    store.py     SQLite                                plants.py    differences to be found

``engine`` is free of any wire format: a wire is paths, fields, errors, events and signatures over
it, so that every token and fault is the same on each.  A payment lives on the wire that made it.
Orders to the provider itself are under ``/v1/_control`` and ``/_control`` (disputes, plants,
outages of one wire, authorisations that lapse), with the own wire's key.
"""
