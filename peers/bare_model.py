"""The limit of the model: it alone, without a server, in batches of so many, for some seconds.

python bare_model.py BATCH SECONDS

Prints one line per request, as `helpers.load` does: its batch is its start and its end.
"""

import csv
import sys
import time

from fixed_work import Model

batch, seconds = int(sys.argv[1]), float(sys.argv[2])
model = Model()
rows = [list(range(100, 104))] * batch
for _ in range(3):
    model.generate(rows)  # warm-up

lines = csv.writer(sys.stdout)
lines.writerow(["run", "start", "latency", "status", "error", "answer"])
end = time.time() + seconds
while (start := time.time()) < end:
    answers = model.generate(rows)
    latency = (time.time() - start) * 1000
    texts = [str(answer).replace(" ", "") for answer in answers]
    lines.writerows([1, start, latency, 200, "", text] for text in texts)
