"""Flower, what a user writes for the server: send the query, add what comes back, as in Flower's pandas quickstart."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    wanted = context.run_config["sites"]
    while len(nodes := list(grid.get_node_ids())) < wanted:
        time.sleep(0.1)
    start = time.perf_counter()
    messages = [Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=node) for node in nodes]
    found = [reply.content["ages"] for reply in grid.send_and_receive(messages)]
    n, total, squares = (sum(one[name] for one in found) for name in ("n", "sum", "squares"))
    counts = np.sum([one["counts"] for one in found], axis=0)
    result = {"n": n, "mean": total / n, "sd": ((squares - total**2 / n) / (n - 1)) ** 0.5, "counts": counts.tolist()}
    result["inside"] = time.perf_counter() - start
    result["seen"] = {str(k): {"n": one["n"], "sum": one["sum"]} for k, one in enumerate(found)}   # what this process holds of each site
    path = Path(context.run_config["result"])
    path.with_suffix(".part").write_text(json.dumps(result))
    path.with_suffix(".part").rename(path)
