"""The demonstration: kill servers in a browser, and see what becomes of a download and of events.

    python -m apps.demo

    browser -- gateway -- sprayer, each datagram to any -- 3 x trickles-serve    (trickles)
    browser -- nginx ------------------------------------- 3 x uvicorn           (uvicorn)

Both halves serve `apps.demo.app`, unchanged. A control server, over TCP, has the page and owns the
processes: its buttons kill and start them.
"""
