"""``os.fork`` again and again while other threads publish: some lock is always held."""

import os
import threading

from _witness import publish, started

app = started(rate="100000/s")
ended = threading.Event()


def run() -> None:
    while not ended.is_set():
        publish(app, 5)
        app.publish("orders", {"id": "ignored"}, delay_s=200)
        app.audit()


threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
codes = []
for _ in range(20):
    child = os.fork()
    if not child:
        for receipt in publish(app, 5):
            receipt.result(timeout_s=20)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ended.set()
for thread in threads:
    thread.join()
assert codes == [0] * 20, codes
