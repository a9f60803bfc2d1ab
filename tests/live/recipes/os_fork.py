"""``os.fork`` while messages wait; parent and child publish, and both end as programs do."""

import os
import sys

from _witness import publish, started

app = started()
publish(app)
child = os.fork()
publish(app)
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
