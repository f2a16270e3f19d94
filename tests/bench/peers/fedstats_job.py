"""fedstats, what a user writes for the question: the codebook of the column, and count, mean, SD and histogram of age."""

DICTIONARY = {"name": "peers", "variables": [{"name": "age", "type": "integer", "range": [18, 90],
                                              "cut_points": {"from": 18, "to": 90, "step": 8}}]}


def question(fed):
    cohort = fed.cohort()
    return fed.ask(cohort.question.summary(["age"]), cohort.question.histogram("age"))
