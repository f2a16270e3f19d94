"""Flower, what a user writes for the sites: the local numbers of one query, as in Flower's pandas quickstart."""

import numpy as np
import pandas as pd
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(msg: Message, context: Context):
    ages = pd.read_csv(context.node_config["table"], usecols=["age"])["age"]
    counts, _ = np.histogram(ages, bins=9, range=(18, 90))
    found = {"n": len(ages), "sum": float(ages.sum()), "squares": float((ages**2).sum()), "counts": counts.tolist()}
    return Message(RecordDict({"ages": MetricRecord(found)}), reply_to=msg)
