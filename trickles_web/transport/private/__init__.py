"""Private flows: the datagrams of the protocol, encrypted and authenticated end to end.

    cover         datagrams of a flow under its secret, each with a nonce of its own
    ticket        the flow's secret, sealed for any server, so that none has to keep it
    exchange      HELLO: the flow's secret, for whoever has the server's key (HPKE)
    introduction  asking which key that is; what comes is for others to judge
    channel       all of it at a server
    flow          all of it at a client

Nothing else of the transport changes: a private datagram is opened before it is read, and answers
are sealed when they are written.
"""
