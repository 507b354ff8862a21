"""``make chaos``: traffic on a whole system while everything that can break does.

::

    __main__   options, a mount namespace of its own, the run, the exit code
    plan       seed -> which fault strikes when (pure)
    system     engines, processes, and a proxy on every wire between them
    faults/    one class a fault: it strikes, proves that it struck, and heals
    traffic    a process of its own: the simulator's city and ruder clients, keeping a journal
    judge      afterwards: `verify`, every acknowledged write, every answer, every process
    bugs       known bugs that a run must find
"""
